# SPDX-License-Identifier: Apache-2.0
"""`unilogit report`: makes report.html of a run anew."""

import argparse

from unilogit_jax.cli._output import Result
from unilogit_jax.paths import to_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """RUN, --no-answers."""
    parser.add_argument("run", metavar="RUN", type=to_path, help="a finished run")
    parser.add_argument(
        "--no-answers",
        action="store_true",
        help="quote no questions and answers: they hold what was to be forgotten",
    )
    parser.epilog = """The page is made from the run folder alone, in seconds. Made again after the
run's models were evaluated or attacked, it holds what that has found."""


def run(args: argparse.Namespace) -> Result:
    """Writes the page."""
    from unilogit_jax import workflows

    return Result(workflows.report(args.run, answers=not args.no_answers))
