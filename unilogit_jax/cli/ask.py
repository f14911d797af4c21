# SPDX-License-Identifier: Apache-2.0
"""`unilogit ask`: puts questions to the models of a run, before and after unlearning."""

import argparse

from unilogit_jax.cli._jax import use_compilation_cache
from unilogit_jax.cli._output import Result
from unilogit_jax.cli._whp import add_whp
from unilogit_jax.paths import to_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """RUN, questions and --whp."""
    parser.add_argument("run_folder", metavar="RUN", type=to_path, help="a run folder")
    parser.add_argument("questions", metavar="QUESTION", nargs="+", help="in quotes")
    add_whp(parser)


def run(args: argparse.Namespace) -> Result:
    """Prints the answers."""
    use_compilation_cache()
    from unilogit_jax import workflows

    answers = workflows.ask(args.run_folder, args.questions, whp=args.whp, alpha=args.alpha)
    return Result({"questions": args.questions, "answers": answers})
