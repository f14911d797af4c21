# SPDX-License-Identifier: Apache-2.0
"""`unilogit evaluate`: measures the models of a run again."""

import argparse

from unilogit_jax.cli._jax import start_jax
from unilogit_jax.paths import to_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """RUN."""
    parser.add_argument("run_folder", metavar="RUN", type=to_path, help="a run folder")


def run(args: argparse.Namespace) -> int:
    """Evaluates and prints the table."""
    start_jax("evaluate", args)
    from unilogit_jax import workflows

    workflows.evaluate(args.run_folder)
    return 0
