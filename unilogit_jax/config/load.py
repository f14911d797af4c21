# SPDX-License-Identifier: Apache-2.0
"""Reads an experiment from YAML with overrides, reports all errors at once, writes it back."""

import logging
from typing import NamedTuple

import yaml
from pydantic import ValidationError

from unilogit_jax.config.overrides import apply_overrides
from unilogit_jax.config.packaged import find_config
from unilogit_jax.config.problems import OVERRIDE, Origins, Problem, bools_for_numbers, problems_of
from unilogit_jax.config.schema import Experiment
from unilogit_jax.config.yaml_file import read_yaml
from unilogit_jax.errors import ConfigError
from unilogit_jax.paths import AnyPath


class Loaded(NamedTuple):
    """An experiment, and what its reader should know about how it was read."""

    experiment: Experiment
    notes: tuple[str, ...]
    """Such as keys that were dropped because an override swapped the method."""


def load_config(source: str | AnyPath, *overrides: str) -> Experiment:
    """Reads an experiment; notes about it go to this module's logger as warnings.

    Args:
      source: a YAML file, or the name of a packaged config such as "toy".
      overrides: `key.sub=value` each, the value in YAML.

    Returns:
      The checked experiment. Paths in it stay as they were written.

    Raises:
      ConfigError: with every problem of the file and the overrides on a line of its own.

    Example:
      >>> load_config("toy", "unlearn.steps=5").unlearn.steps
      5

    """
    loaded = read_config(source, *overrides)
    for note in loaded.notes:
        logging.getLogger(__name__).warning(note)
    return loaded.experiment


def read_config(source: str | AnyPath, *overrides: str) -> Loaded:
    """Like `load_config`, with the notes returned instead of logged.

    Raises:
      ConfigError: with every problem of the file and the overrides on a line of its own.

    """
    path = find_config(source)
    document = read_yaml(path)
    tree = document.values
    applied = apply_overrides(tree, overrides)
    origins = Origins(document.lines, applied.paths)
    found = [Problem(OVERRIDE, text) for text in applied.problems]
    for key, line, first in document.repeated:
        found.append(Problem(line, f"'{'.'.join(key)}' is already set in line {first}."))
    experiment = None
    try:
        experiment = Experiment.model_validate(tree)
    except ValidationError as error:
        found += problems_of(error, tree, origins)
    found += bools_for_numbers(tree, origins)
    if found or experiment is None:
        lines = [str(problem) for problem in sorted(found, key=lambda problem: problem.line)]
        raise ConfigError("\n".join([f"config error in {path}", *lines]))
    return Loaded(experiment, tuple(applied.notes))


def dump_config(experiment: Experiment) -> str:
    """The experiment as YAML with every key written out; `load_config` reads it back unchanged."""
    return yaml.safe_dump(
        experiment.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=1000
    )
