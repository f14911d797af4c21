# SPDX-License-Identifier: Apache-2.0
"""Requests that come one after another, served in turn, and what is forgotten after each."""

from collections.abc import Sequence

from unilogit_jax.config import Loaded, read_config
from unilogit_jax.hosts import agreed, by_first
from unilogit_jax.paths import AnyPath, to_path
from unilogit_jax.run import Console, RunFolder, make_console, read_json, write_json
from unilogit_jax.run.shapes import Requests
from unilogit_jax.workflows._continue import start_from
from unilogit_jax.workflows._nested import run_at
from unilogit_jax.workflows._requests import check_requests, request_words
from unilogit_jax.workflows._runs import open_run
from unilogit_jax.workflows._session import check_place, new_run, true_status
from unilogit_jax.workflows._turns import RECORD, measure, request_folder, tell
from unilogit_jax.workflows.finetune import finetune
from unilogit_jax.workflows.unlearn import unlearn

START = "start"
"""The run that trains a model made from scratch, in the folder."""


def unlearn_sequence(
    source: AnyPath | str,
    requests: Sequence[str],
    *overrides: str,
    out: AnyPath | str | None = None,
    console: Console | None = None,
) -> RunFolder:
    """Serves requests in turn, each from the weights that the one before ended with.

    Each is a run of its own, request-1 and so on, measured before and after like any other. After
    each, the rows of all requests are measured too: what was forgotten first should stay so. A
    model made from scratch learns the rows that the configuration itself names first.

    Args:
      source: a configuration, as `read_config` takes it.
      requests: values of `data.forget`: splits of a benchmark, or paths.
      *overrides: `key=value` each.
      out: this very folder instead of a new one under `output.dir`.
      console: where to print; None prints to standard output.

    Returns:
      The folder: requests.json, summary.json, and the runs.

    Raises:
      UnilogitError: something about the data, the weights or the folder is not usable; what is
        wrong with a later request is said before anything is written.

    """
    console = make_console() if console is None else console
    whole = agreed(lambda: _whole(source, requests, overrides))
    check_place(whole.experiment, out)
    with console.stage("checking all requests"):
        agreed(lambda: check_requests(source, requests, overrides, whole.experiment))
    folder = new_run(whole.experiment, out)
    record = {"requests": list(requests), "probability": []}
    by_first(lambda: write_json(folder.path / RECORD, record))
    for note in whole.notes:
        console.warn(note)
    return _serve(folder, console)


def is_sequence(path: AnyPath | str) -> bool:
    """Whether a folder holds requests served in turn."""
    return (to_path(path) / RECORD).is_file()


def resume_sequence(
    path: AnyPath | str, *, console: Console | None = None, profile: bool = False
) -> RunFolder:
    """Goes on with requests; what is done is not done again.

    Args:
      path: the folder.
      console: where to print; None prints to standard output.
      profile: traces a few updates of what is still to do.

    """
    folder, _ = open_run(path)
    more = ("output.profile=true",) if profile else ()
    return _serve(folder, make_console() if console is None else console, more)


def _whole(source: AnyPath | str, requests: Sequence[str], overrides: Sequence[str]) -> Loaded:
    """The folder's configuration: what a model from scratch learns, else the first request's."""
    first = read_config(source, *overrides, *request_words(requests[0]))
    scratch = first.experiment.model.scratch is not None
    return read_config(source, *overrides) if scratch else first


def _serve(folder: RunFolder, console: Console, more: Sequence[str] = ()) -> RunFolder:
    """Does what is still to do."""
    requests: list[str] = agreed(lambda: read_json(folder.path / RECORD, Requests))["requests"]

    def read(begin: Sequence[str], request: str | None = None) -> Loaded:
        words = () if request is None else request_words(request)
        return agreed(lambda: read_config(folder.config, *more, *begin, *words))

    with true_status(folder, console):
        whole = read(()).experiment
        console.title(f"unilogit · unlearn · {whole.name}: {len(requests)} requests in turn")
        console.line(f"folder: {folder.path}")
        begin: Sequence[str] = ()
        if whole.model.scratch is not None:
            if whole.eval.gold:
                console.warn("eval.gold is left out: each request would have a gold of its own.")
            begin = start_from(run_at(finetune, folder.path / START, Loaded(whole, ()), console))
        asked = [read(begin, request).experiment for request in requests]
        for number, request in enumerate(requests, start=1):
            loaded = read(begin, request)
            measure(folder, loaded.experiment, asked, after=number - 1, console=console)
            console.title(f"request {number} of {len(requests)}: {request}")
            run = run_at(unlearn, folder.path / request_folder(number), loaded, console)
            begin = start_from(run)
        last = read(begin, requests[-1]).experiment
        measure(folder, last, asked, after=len(requests), console=console)
        tell(folder, console, requests)
        console.line(f"numbers: {folder.summary}")
        console.line(f"the last model: {folder.path / request_folder(len(requests))}")
        console.finish()
    return folder
