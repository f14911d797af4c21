# SPDX-License-Identifier: Apache-2.0
"""The arguments of `unlearn` and `finetune`: a config with overrides, or a run to resume."""

import argparse
from collections.abc import Callable
from typing import Any

from unilogit_jax.cli._output import Result
from unilogit_jax.errors import ConfigError, UnilogitError
from unilogit_jax.paths import to_path


def add_config(parser: argparse.ArgumentParser, *, optional: bool = False) -> None:
    """CONFIG and key=value."""
    parser.add_argument(
        "config",
        metavar="CONFIG",
        nargs="?" if optional else None,
        help="a YAML file, or the name of a packaged config ('unilogit ls configs')",
    )
    parser.add_argument(
        "overrides",
        metavar="key=value",
        nargs="*",
        help="set a key of the config, such as method.name=npo or unlearn.steps=100",
    )


def add_training(parser: argparse.ArgumentParser) -> None:
    """CONFIG, key=value, --out and --resume."""
    add_config(parser, optional=True)
    parser.add_argument(
        "--out",
        metavar="DIR",
        type=to_path,
        help="this very run folder, instead of one in output.dir",
    )
    parser.add_argument(
        "--resume", metavar="RUN", type=to_path, help="go on with this run; takes no CONFIG"
    )
    parser.add_argument(
        "--profile", action="store_true", help="trace a few updates of each stage into RUN/profile"
    )


def read(args: argparse.Namespace, *more: str) -> tuple[Any, tuple[str, ...]]:
    """The experiment, and notes about how it was read.

    Args:
      args: as `add_config` makes them.
      *more: further overrides.

    Raises:
      ConfigError: the config or an override is wrong.

    """
    from unilogit_jax.config import read_config

    if "=" in args.config and not is_there(args.config):
        raise ConfigError(f"name the config before '{args.config}', such as toy or my.yaml.")
    return read_config(args.config, *args.overrides, *more)


def is_there(word: str) -> bool:
    """Whether a word is the place of something; of a long setting no file can have the name."""
    try:
        return to_path(word).exists()
    except (OSError, ValueError):
        return False


def run_training(args: argparse.Namespace, start: Callable[..., object]) -> Result:
    """Starts or resumes a run.

    Raises:
      UnilogitError: the arguments contradict each other, or the run cannot be made.

    """
    from unilogit_jax import workflows
    from unilogit_jax.hosts import agreed

    if args.resume is not None:
        if args.config or args.out:
            raise UnilogitError(
                "--resume RUN goes on with the run's own config: drop CONFIG and --out."
            )
        return Result(workflows.resume(args.resume, profile=args.profile))
    if args.config is None:
        raise UnilogitError(
            "name a config, such as toy or my.yaml; 'unilogit ls configs' lists some."
        )
    more = ["output.profile=true"] if args.profile else []
    experiment, notes = agreed(lambda: read(args, *more))
    return Result(start(experiment, out=args.out, notes=notes))
