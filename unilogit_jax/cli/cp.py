# SPDX-License-Identifier: Apache-2.0
"""`unilogit cp`: copies a packaged config to a place where it can be changed."""

import argparse
from pathlib import Path

from unilogit_jax.cli._output import Result
from unilogit_jax.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """NAME and DEST."""
    parser.add_argument("name", metavar="NAME", help="a packaged config ('unilogit ls configs')")
    parser.add_argument("dest", metavar="DEST", help="a new file, or a folder")


def run(args: argparse.Namespace) -> Result:
    """Copies; an existing file is never overwritten.

    Raises:
      ConfigError: there is no such config, or it cannot be copied there.

    """
    from unilogit_jax.config import config_path

    source = config_path(args.name)
    dest = Path(args.dest)
    if dest.is_dir():
        dest = dest / source.name
    elif args.dest.endswith("/"):
        raise ConfigError(f"there is no folder '{dest}': make it with mkdir -p {dest}")
    contents, ours = source.read_bytes(), False
    try:
        with dest.open("xb") as file:
            ours = True
            file.write(contents)
    except FileExistsError:
        raise ConfigError(
            f"'{dest}' exists already and is never overwritten: name another file."
        ) from None
    except OSError as error:
        if ours:
            dest.unlink(missing_ok=True)
        raise ConfigError(f"'{dest}' cannot be written: {error.strerror}.") from None
    print(f"{dest}: run it with 'unilogit unlearn {dest}'")
    return Result({"file": dest})
