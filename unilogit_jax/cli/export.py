# SPDX-License-Identifier: Apache-2.0
"""`unilogit export`: writes a model as a Hugging Face folder."""

import argparse

from unilogit_jax.cli._jax import use_compilation_cache
from unilogit_jax.cli._output import Result
from unilogit_jax.paths import to_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """SOURCE, OUT, --stage, --dtype, --adapter."""
    parser.add_argument("source", metavar="SOURCE", help="a run, or a Hugging Face folder or id")
    parser.add_argument("out", metavar="OUT", type=to_path, help="the folder to make")
    parser.add_argument(
        "--stage", metavar="NAME", help="which model: target, gold or unlearn (the default)"
    )
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        help="of the stored weights (default: as the model came)",
    )
    parser.add_argument(
        "--adapter", action="store_true", help="only the low-rank adapters of a run, for PEFT"
    )


def run(args: argparse.Namespace) -> Result:
    """Writes the folder."""
    use_compilation_cache()
    from unilogit_jax import workflows

    folder = workflows.export(
        args.source, args.out, stage=args.stage, dtype=args.dtype, adapter=args.adapter
    )
    return Result({"folder": folder})
