# SPDX-License-Identifier: Apache-2.0
"""What a verb says, and to whom: lines for people, one JSON object for machines, or nothing."""

import argparse
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any, NamedTuple

ANSWERING = ("ls", "show", "compare", "doctor", "completion")
"""Verbs that answer at once and do nothing else: without their lines nothing is left."""
_SILENCERS = (
    "HF_HUB_DISABLE_PROGRESS_BARS",
    "HF_DATASETS_DISABLE_PROGRESS_BARS",
    "TQDM_DISABLE",
    "WANDB_SILENT",
)
"""Variables that keep other libraries from drawing bars and the like."""


class Result(NamedTuple):
    """What a verb found or made."""

    data: Any = None
    """What --json prints: a run folder, or whatever JSON can hold, with names at the top."""
    code: int = 0
    """The exit code."""


def add_output(parser: argparse.ArgumentParser, verb: str) -> None:
    """--json, and --quiet where there is something to silence."""
    if verb not in ANSWERING:
        parser.add_argument(
            "--quiet", action="store_true", help="print nothing but errors; logs are written"
        )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print the result as one JSON object; lines for people go to standard error",
    )


def run_verb(verb: str, run: Callable[[argparse.Namespace], Result], args: Any) -> int:
    """Runs a verb and says what was asked for; returns the exit code.

    Args:
      verb: its name.
      run: what its module offers.
      args: its arguments and those of `add_output`, which `run` does not see.

    """
    quiet, as_json = vars(args).pop("quiet", False), vars(args).pop("json")
    # transformers says at every start that models want PyTorch: its models are not used here.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    with _lines(quiet=quiet or (as_json and verb in ANSWERING), elsewhere=as_json):
        found = run(args)
    if as_json:
        _print(found.data)
    return found.code


def print_error(error: BaseException, code: int) -> None:
    """What a command that was asked for JSON prints in place of a result."""
    said = str(error) or {130: "interrupted"}.get(code, type(error).__name__)
    _print({"error": said, "kind": type(error).__name__, "exit_code": code})


@contextmanager
def _lines(*, quiet: bool, elsewhere: bool) -> Iterator[None]:
    """Sends what is printed to nowhere, to standard error, or where it always goes."""
    if quiet:
        for name in _SILENCERS:
            os.environ.setdefault(name, "1")
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    elif elsewhere:
        with redirect_stdout(sys.stderr):
            yield
    else:
        yield


def _print(data: Any) -> None:
    """One line; of the processes of a run the first one prints it."""
    from unilogit_jax.hosts import is_first
    from unilogit_jax.run import RunFolder, read_json
    from unilogit_jax.run.files import to_plain

    if not is_first():
        return
    if isinstance(data, RunFolder):
        summary = read_json(data.summary) if data.summary.is_file() else None
        data = {"run": data.path, "status": data.status, "summary": summary}
    print(json.dumps(to_plain(data), ensure_ascii=False, allow_nan=False))
