# SPDX-License-Identifier: Apache-2.0
"""`unilogit compare`: the numbers of several runs in one table."""

import argparse
from dataclasses import asdict
from typing import Any

from unilogit_jax.cli._output import Result
from unilogit_jax.paths import to_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """RUN, several times."""
    parser.add_argument("runs", metavar="RUN", nargs="+", type=to_path, help="finished runs")


def run(args: argparse.Namespace) -> Result:
    """Prints the table."""
    from unilogit_jax import workflows

    found = workflows.compare(args.runs)
    return Result({name: {k: _plain(x) for k, x in one.items()} for name, one in found.items()})


def _plain(spread: Any) -> dict[str, Any]:
    """A number with its interval's parts by name."""
    interval = spread.interval and spread.interval._asdict()
    return {**asdict(spread), "interval": interval}
