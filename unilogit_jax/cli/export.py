# SPDX-License-Identifier: Apache-2.0
"""`unilogit export`: writes a run's model as a Hugging Face folder."""

import argparse
from pathlib import Path

from unilogit_jax.cli._jax import use_compilation_cache


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """RUN, OUT, --stage, --dtype."""
    parser.add_argument("run_folder", metavar="RUN", type=Path, help="a run folder")
    parser.add_argument("out", metavar="OUT", type=Path, help="the folder to make")
    parser.add_argument(
        "--stage", metavar="NAME", help="which model: target, gold or unlearn (the default)"
    )
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        default="float32",
        help="of the stored weights (default: float32)",
    )


def run(args: argparse.Namespace) -> int:
    """Writes the folder."""
    use_compilation_cache()
    from unilogit_jax import workflows

    workflows.export(args.run_folder, args.out, stage=args.stage, dtype=args.dtype)
    return 0
