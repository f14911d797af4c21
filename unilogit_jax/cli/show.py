# SPDX-License-Identifier: Apache-2.0
"""`unilogit show`: prints a config with every key resolved, or explains a method."""

import argparse
import sys
from dataclasses import asdict

from unilogit_jax.cli._output import Result
from unilogit_jax.cli._training import add_config, read
from unilogit_jax.errors import UnilogitError

_METHOD = "method"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """CONFIG and overrides, or the word method and a name."""
    add_config(parser)
    parser.epilog = (
        "'unilogit show method NAME' explains a method instead: its formula, its keys, what it\n"
        "needs, its paper. NAME is one of 'unilogit ls methods', or my_file:MyMethod.\n"
    )


def run(args: argparse.Namespace) -> Result:
    """Prints YAML; notes go to standard error, so that the output can be stored as a config.

    Raises:
      UnilogitError: the config is wrong, or there is no such method.

    """
    if args.config == _METHOD:
        return _show_methods(args.overrides)
    from unilogit_jax.config import dump_config

    experiment, notes = read(args)
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    print(dump_config(experiment), end="")
    return Result(experiment.model_dump(mode="json"))


def _show_methods(names: list[str]) -> Result:
    from unilogit_jax.cli._method_text import method_text
    from unilogit_jax.config.method_card import method_card

    if len(names) != 1:
        raise UnilogitError(
            "name one method, such as 'unilogit show method npo'; 'unilogit ls methods' lists them."
        )
    card = method_card(names[0])
    print(method_text(card))
    texts = [text for _, text in card.body]
    return Result({**asdict(card), "body": texts, "keys": [key._asdict() for key in card.keys]})
