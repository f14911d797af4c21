# SPDX-License-Identifier: Apache-2.0
"""`unilogit compare`: the numbers of several runs in one table."""

import argparse

from unilogit_jax.cli._output import Result
from unilogit_jax.paths import to_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """RUN, several times."""
    parser.add_argument("runs", metavar="RUN", nargs="+", type=to_path, help="finished runs")


def run(args: argparse.Namespace) -> Result:
    """Prints the table."""
    from unilogit_jax import workflows

    return Result(workflows.compare(args.runs))
