# SPDX-License-Identifier: Apache-2.0
"""`unilogit unlearn`: removes the forget rows from a model."""

import argparse

from unilogit_jax.cli._jax import start_jax
from unilogit_jax.cli._training import add_training, run_training


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """CONFIG, overrides, --out, --resume."""
    add_training(parser)
    parser.epilog = """examples:
  unilogit unlearn toy
  unilogit unlearn my.yaml method.name=npo unlearn.steps=100
  unilogit unlearn --resume runs/1123-210400-toy"""


def run(args: argparse.Namespace) -> int:
    """Starts or resumes the run."""
    start_jax("unlearn", args)
    from unilogit_jax.workflows import unlearn

    return run_training(args, unlearn)
