# SPDX-License-Identifier: Apache-2.0
"""`unilogit generate`: lets the model of a config write data to unlearn with."""

import argparse
from pathlib import Path

from unilogit_jax.cli._jax import start_jax
from unilogit_jax.cli._output import Result
from unilogit_jax.cli._training import add_config, read
from unilogit_jax.errors import ConfigError
from unilogit_jax.paths import to_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """CONFIG, --out, and what to write."""
    add_config(parser)
    parser.add_argument(
        "--out", metavar="FILE", type=to_path, required=True, help="the file to make, JSON Lines"
    )
    parser.add_argument(
        "--what",
        choices=("alternates", "texts"),
        help="other answers to the forget questions, for data.alternates, or texts about somebody, "
        "for data.texts; texts with benchmark rwku, else alternates",
    )
    parser.add_argument(
        "--about", metavar="NAME", action="append", default=[], help="whom texts are to be about"
    )
    parser.add_argument(
        "--count", metavar="N", type=_count, help="for each question (5) or name (100)"
    )
    parser.add_argument(
        "--prompt",
        metavar="FILE",
        type=Path,
        help="a text with {question} and {answer}, or with {name}: what the model is asked",
    )
    parser.add_argument(
        "--temperature", metavar="T", type=float, default=1.0, help="of the draws (1)"
    )


def run(args: argparse.Namespace) -> Result:
    """Writes the file."""
    start_jax("generate", args)
    from unilogit_jax import workflows
    from unilogit_jax.hosts import agreed

    experiment, _ = agreed(lambda: read(args))
    file = workflows.generate(
        experiment,
        args.out,
        what=args.what,
        about=args.about,
        count=args.count,
        prompt=None if args.prompt is None else _text(args.prompt),
        temperature=args.temperature,
    )
    return Result({"file": file})


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number above 0")
    return int(text)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--prompt {path} cannot be read: {error}.") from error
