# SPDX-License-Identifier: Apache-2.0
"""Experiment files: the schema, reading with overrides, writing, and the packaged files."""

from unilogit_jax.config.find_method import method_class, method_label, method_name
from unilogit_jax.config.load import Loaded, dump_config, load_config, make_config, read_config
from unilogit_jax.config.packaged import config_names, config_path
from unilogit_jax.config.schema import (
    Data,
    Evaluation,
    Experiment,
    Lora,
    Mesh,
    Model,
    Output,
    Scratch,
    Training,
)

__all__ = [
    "Data",
    "Evaluation",
    "Experiment",
    "Loaded",
    "Lora",
    "Mesh",
    "Model",
    "Output",
    "Scratch",
    "Training",
    "config_names",
    "config_path",
    "dump_config",
    "load_config",
    "make_config",
    "method_class",
    "method_label",
    "method_name",
    "read_config",
]
