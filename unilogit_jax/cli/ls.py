# SPDX-License-Identifier: Apache-2.0
"""`unilogit ls`: what comes with the package, one line each."""

import argparse
import inspect
from collections.abc import Callable

from unilogit_jax.cli._output import Result
from unilogit_jax.errors import UnilogitError, suggest

Rows = list[tuple[str, str]]
"""Name, what it is."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One of the lists, or all."""
    parser.add_argument("what", nargs="?", metavar="WHAT", help=f"{', '.join(LISTS)}; or all")


def run(args: argparse.Namespace) -> Result:
    """Prints one list, or all of them under headings.

    Raises:
      UnilogitError: there is no such list.

    """
    if args.what is not None and args.what not in LISTS:
        known = ", ".join(LISTS)
        raise UnilogitError(f"no list '{args.what}'.{suggest(args.what, LISTS)} Lists: {known}.")
    alone = args.what is not None
    found = {}
    for name in filter(lambda one: not alone or one == args.what, LISTS):
        rows = LISTS[name]()
        if not alone:
            print(name)
        _print(rows, indent="" if alone else "  ")
        found[name] = [{"name": one, "about": " ".join(line.split())} for one, line in rows]
    return Result(found)


def _configs() -> Rows:
    from unilogit_jax.config import config_names, config_path

    return [(name, _first_comment(config_path(name).read_text("utf-8"))) for name in config_names()]


def _methods() -> Rows:
    from unilogit_jax.config.method_card import papers_of
    from unilogit_jax.methods import METHODS

    papers = {name: papers_of(method) for name, method in METHODS.items()}
    numbers = {name: f"arXiv:{found[0]}" if found else "" for name, found in papers.items()}
    width = max(map(len, numbers.values()))
    return [
        (name, f"{numbers[name]:{width}}  {_first_line(method)}")
        for name, method in METHODS.items()
    ]


def _benchmarks() -> Rows:
    from unilogit_jax.benchmarks import BENCHMARKS

    return [(name, _first_line(inspect.getmodule(load))) for name, load in BENCHMARKS.items()]


def _models() -> Rows:
    from unilogit_jax.models import FAMILIES

    return [(name, _first_line(inspect.getmodule(f.read_config))) for name, f in FAMILIES.items()]


LISTS: dict[str, Callable[[], Rows]] = {
    "configs": _configs,
    "methods": _methods,
    "benchmarks": _benchmarks,
    "models": _models,
}
"""Word after `ls` -> its rows."""


def _print(rows: Rows, *, indent: str) -> None:
    width = max((len(name) for name, _ in rows), default=0)
    for name, line in rows:
        print(f"{indent}{name:{width}}  {line}".rstrip())


def _first_line(documented: object) -> str:
    return (inspect.getdoc(documented) or "").partition("\n")[0]


def _first_comment(text: str) -> str:
    comments = (line.strip("# ") for line in text.splitlines() if line.startswith("#"))
    return next((line for line in comments if line), "")
