# SPDX-License-Identifier: Apache-2.0
"""`unilogit show`: prints a config with every key resolved, as a run would store it."""

import argparse
import sys

from unilogit_jax.cli._training import add_config, read


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """CONFIG and overrides."""
    add_config(parser)


def run(args: argparse.Namespace) -> int:
    """Prints YAML; notes go to standard error, so that the output can be stored as a config."""
    from unilogit_jax.config import dump_config

    experiment, notes = read(args)
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    print(dump_config(experiment), end="")
    return 0
