# SPDX-License-Identifier: Apache-2.0
"""`unilogit attack`: does what was unlearned come back?"""

import argparse

from unilogit_jax.cli._jax import start_jax
from unilogit_jax.cli._output import Result
from unilogit_jax.paths import to_path

NAMES = ("relearn", "quantize", "paraphrase", "prompts", "sample", "lens")
"""What `--only` takes, for help and completion; the workflow refuses others."""

_OPTIONS = {
    "rows": (int, "N", "relearn: rows to train on (a tenth of those to forget)"),
    "updates": (int, "N", "relearn: how many (20)"),
    "every": (int, "N", "relearn: updates between two points of the curve (2)"),
    "learning-rate": (float, "RATE", "relearn: constant (that of unlearn)"),
    "samples": (int, "N", "sample: answers to each question (16)"),
    "temperature": (float, "T", "sample: of the draws (1)"),
    "seed": (int, "N", "of rows, examples and draws (0)"),
}
"""Option -> its type, what it takes, help; without it the workflow's default counts."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """RUN, key=value, which attacks, how strong, --again, --out."""
    parser.add_argument("run", metavar="RUN", help="a finished run of 'unilogit unlearn'")
    parser.add_argument(
        "overrides", metavar="key=value", nargs="*", help="set a key, such as eval.max_items=50"
    )
    parser.add_argument(
        "--only",
        metavar="NAME",
        nargs="+",
        default=[],
        help=f"some of {', '.join(NAMES)}",
    )
    parser.add_argument(
        "--relearn-on",
        metavar="ROWS",
        choices=("forget", "retain", "both"),
        help="relearn: from forget rows, from retain rows, or from each in turn (forget)",
    )
    for option, (kind, value, text) in _OPTIONS.items():
        parser.add_argument(f"--{option}", metavar=value, type=kind, help=text)
    parser.add_argument(
        "--again", action="store_true", help="also those that are there with the same settings"
    )
    parser.add_argument(
        "--out", metavar="FILE", type=to_path, help="this file instead of RUN/attack.json"
    )
    parser.epilog = """examples:
  unilogit attack runs/1123-210400-toy
  unilogit attack runs/1123-210400-toy --only relearn --relearn-on both --updates 40"""


def run(args: argparse.Namespace) -> Result:
    """Attacks and prints the table."""
    start_jax("attack", args)
    from unilogit_jax import workflows

    names = [option.replace("-", "_") for option in _OPTIONS]
    options = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if args.relearn_on is not None:
        both = args.relearn_on == "both"
        options["relearn_on"] = ("forget", "retain") if both else (args.relearn_on,)
    page = workflows.attack(
        args.run, *args.overrides, only=args.only, again=args.again, out=args.out, **options
    )
    return Result(page)
