# SPDX-License-Identifier: Apache-2.0
"""`unilogit quickstart`: a small model learns invented people and unlearns some of them."""

import argparse

from unilogit_jax.cli._jax import use_compilation_cache
from unilogit_jax.cli._output import Result
from unilogit_jax.paths import to_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--compare, --out."""
    parser.add_argument("--compare", action="store_true", help="run the other methods too")
    parser.add_argument(
        "--out", metavar="DIR", type=to_path, help="this very run folder, instead of one in runs/"
    )


def run(args: argparse.Namespace) -> Result:
    """Runs the packaged toy config."""
    use_compilation_cache()
    from unilogit_jax import workflows

    return Result(workflows.quickstart(compare=args.compare, out=args.out))
