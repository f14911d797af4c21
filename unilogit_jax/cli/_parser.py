# SPDX-License-Identifier: Apache-2.0
"""An argument parser that answers a mistake with one sentence, and takes options in any place."""

import argparse
import importlib
from collections.abc import Sequence
from typing import Any, NoReturn

from unilogit_jax.cli import VERBS
from unilogit_jax.cli._output import add_output
from unilogit_jax.errors import UnilogitError, suggest


def parser_of(verb: str) -> "tuple[Parser, Any]":
    """The parser of a verb's arguments, and the module that serves it."""
    name, line = VERBS[verb]
    module = importlib.import_module(f"unilogit_jax.cli.{name}")
    parser = Parser(prog=f"unilogit {verb}", description=f"{line[0].upper()}{line[1:]}.")
    module.add_arguments(parser)
    add_output(parser, verb)
    return parser, module


class Parser(argparse.ArgumentParser):
    """argparse without abbreviated options and without a usage dump."""

    def __init__(self, *, prog: str, description: str):
        super().__init__(
            prog=prog,
            description=description,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    def parse(self, words: Sequence[str]) -> argparse.Namespace | None:
        """The arguments, or None where help was asked for and printed.

        Raises:
          UnilogitError: the arguments are wrong.

        """
        if "-h" in words or "--help" in words:
            self.print_help()
            return None
        # Intermixed, so that key=value may stand before and after options.
        return self.parse_intermixed_args(words)

    def error(self, message: str) -> NoReturn:
        """Raises instead of exiting."""
        unknown = message.removeprefix("unrecognized arguments: ")
        if unknown != message:
            word = unknown.split()[0].partition("=")[0]
            known = [option for action in self._actions for option in action.option_strings]
            message = f"unknown argument '{word}'.{suggest(word, known)}"
        else:
            message = f"{message}."
        raise UnilogitError(f"{self.prog}: {message} '{self.prog} -h' explains the arguments.")
