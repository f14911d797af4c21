# SPDX-License-Identifier: Apache-2.0
"""`unilogit finetune`: trains the model that is to be unlearned."""

import argparse

from unilogit_jax.cli._jax import start_jax
from unilogit_jax.cli._output import Result
from unilogit_jax.cli._training import add_training, run_training


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """CONFIG, overrides, --out, --resume."""
    add_training(parser)
    parser.epilog = """examples:
  unilogit finetune toy
  unilogit finetune my.yaml output.seed=1 finetune.steps=100
  unilogit finetune --resume runs/1123-210400-toy"""


def run(args: argparse.Namespace) -> Result:
    """Starts or resumes the run."""
    start_jax("finetune", args)
    from unilogit_jax.workflows import finetune

    return run_training(args, finetune)
