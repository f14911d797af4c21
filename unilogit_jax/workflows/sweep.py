# SPDX-License-Identifier: Apache-2.0
"""Many runs of one configuration, and which of them to take."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import jax

from unilogit_jax.config import read_config
from unilogit_jax.evaluation import MEANINGS
from unilogit_jax.hosts import agreed, by_first
from unilogit_jax.paths import AnyPath, to_path
from unilogit_jax.run import Console, RunFolder, make_console, plot_front, read_json, write_json
from unilogit_jax.run.shapes import Sweep
from unilogit_jax.workflows._beside import start_key
from unilogit_jax.workflows._grid import combinations
from unilogit_jax.workflows._nested import run_at
from unilogit_jax.workflows._pick import Rule, check_rule, front, make_rule, pick
from unilogit_jax.workflows._prepare import Prepared
from unilogit_jax.workflows._runs import open_run
from unilogit_jax.workflows._session import check_place, new_run, true_status
from unilogit_jax.workflows._sketch import sketch
from unilogit_jax.workflows._targets import check_targets
from unilogit_jax.workflows.compare import spreads_of
from unilogit_jax.workflows.unlearn import unlearn

RECORD = "sweep.json"
"""In the folder of a sweep: the overrides of every run, and the rule."""
PICTURE = "front.png"
_ALONE = ("compare=[]",)
"""Each run is of one method; several are compared by the sweep."""
_BESIDE = ("forget_malformed", "retain_malformed", "forget_ks_distance")
"""Numbers shown beside those of the rule: a low probability of answers says nothing of what comes
in their place."""


def sweep(
    source: AnyPath | str,
    *overrides: str,
    over: Sequence[str] = (),
    each: Sequence[str] = (),
    seeds: Sequence[int] = (),
    utility: str | None = None,
    forget: str | None = None,
    floor: float = 0.95,
    out: AnyPath | str | None = None,
    console: Console | None = None,
) -> RunFolder:
    """Runs every combination one after the other, and says which to take.

    Runs that begin with the same models share them: a model made from scratch and gold are trained
    and measured once for each seed. Runs that differ by seeds alone are one setting, whose means
    count.

    Args:
      source: a configuration, as `read_config` takes it.
      *overrides: `key=value` each, the same for all runs.
      over: `key=value,value,...` each.
      each: settings that go together, `key=value key=value` each; every run has one of them.
      seeds: values of `output.seed`.
      utility: number that says what was kept; None: the first of the usual ones that is measured.
      forget: number that says what was forgotten, likewise.
      floor: least utility of a setting to be taken, as a share of that before unlearning.
      out: this very folder instead of a new one under `output.dir`.
      console: where to print; None prints to standard output.

    Returns:
      The folder: sweep.json, summary.json, front.png, and the runs.

    Raises:
      UnilogitError: something about a run is not usable, said before any is started.

    """
    console = make_console() if console is None else console
    asked = {"utility": utility, "forget": forget, "floor": floor}
    check_rule(**asked)
    runs = [(*_ALONE, *words) for words in combinations(over, each, seeds)]
    whole, notes = agreed(lambda: read_config(source, *overrides, *_ALONE))
    agreed(lambda: _check(source, overrides, runs))
    check_place(whole, out)
    # What a run alone sets is not in the folder's configuration, or later ones would inherit it.
    folder = new_run(whole, out)
    by_first(lambda: write_json(folder.path / RECORD, {"runs": runs, "rule": asked}))
    for note in notes:
        console.warn(note)
    return _serve(folder, console)


def is_sweep(path: AnyPath | str) -> bool:
    """Whether a folder holds a sweep."""
    return (to_path(path) / RECORD).is_file()


def resume_sweep(
    path: AnyPath | str, *, console: Console | None = None, profile: bool = False
) -> RunFolder:
    """Goes on with a sweep; finished runs are not done again.

    Args:
      path: the folder.
      console: where to print; None prints to standard output.
      profile: traces a few updates of what is still to do.

    """
    folder, _ = open_run(path)
    more = ("output.profile=true",) if profile else ()
    return _serve(folder, make_console() if console is None else console, more)


def _check(source: AnyPath | str, overrides: Sequence[str], runs: Sequence[Sequence[str]]) -> None:
    """Says what is wrong with any of the runs."""
    loaded = [read_config(source, *overrides, *words) for words in runs]
    known: dict[str, Prepared] = {}
    for experiment, _ in loaded:
        key = start_key(experiment)
        if key not in known:
            known[key], _ = sketch(experiment, devices=jax.devices())
        prepared = replace(known[key], experiment=experiment)
        check_targets(prepared)
        for method in experiment.methods:
            prepared.alternates(method)


def _serve(folder: RunFolder, console: Console, more: Sequence[str] = ()) -> RunFolder:
    """Does what is still to do."""
    record = agreed(lambda: read_json(folder.path / RECORD, Sweep))
    runs: list[list[str]] = record["runs"]
    with true_status(folder, console):
        console.title(f"unilogit · sweep · {len(runs)} runs")
        console.line(f"folder: {folder.path}")
        begun: dict[str, RunFolder] = {}
        done = []
        for number, words in enumerate(runs, start=1):
            loaded = agreed(lambda words=words: read_config(folder.config, *words, *more))
            key = start_key(loaded.experiment)
            console.title(f"run {number} of {len(runs)}: {' '.join(words[len(_ALONE) :])}")
            place = folder.path / f"run-{number}"
            run = run_at(unlearn, place, loaded, console, beside=begun.get(key))
            begun.setdefault(key, run)
            done.append(run)
            if number == 1:  # a number that is not measured is no news for the end
                make_rule(spreads_of([run.path])["before"], **record["rule"])
        _tell(folder, done, record["rule"], console)
        console.finish()
    return folder


def _tell(
    folder: RunFolder, done: Sequence[RunFolder], asked: Mapping[str, Any], console: Console
) -> None:
    """Means of every setting, the front, and the choice; as text, as numbers, as a picture."""
    spreads = spreads_of([run.path for run in done])
    means = {n: {key: s.mean for key, s in found.items()} for n, found in spreads.items()}
    before, gold = means["before"], means.get("gold")
    settings = {name: n for name, n in means.items() if name not in ("before", "gold")}
    rule = make_rule(before, **asked)
    best, chosen = front(rule, settings, gold), pick(rule, settings, before, gold)
    shown = [rule.forget, rule.utility, *(key for key in _BESIDE if key in before)]
    order = sorted(settings, key=lambda n: rule.remains(means[n], gold))
    # Settings have long names; in the picture they are numbers.
    numbered = {name: str(number) for number, name in enumerate(order, start=1)}
    rows = [
        [
            numbered.get(name, ""),
            name,
            *(str(spreads[name].get(key, "-")) for key in shown),
            _mark(name, best, chosen),
        ]
        for name in (*order, "before", "gold")
        if name in spreads
    ]
    heads = [MEANINGS[key].title for key in shown]
    console.table("means over seeds, best forgetting first", ["", "setting", *heads, ""], rows)
    console.title(_choice(rule, chosen, before))
    flat = {f"{n}.{key}": x for n, numbers in means.items() for key, x in numbers.items()}
    found = {"taken": chosen, "front": best, "rule": asdict(rule), **flat}
    by_first(lambda: write_json(folder.summary, found))
    by_first(lambda: _draw(folder, rule, means, numbered, best, chosen))
    console.line(f"numbers: {folder.summary}")
    console.line(f"picture: {folder.path / PICTURE}")


def _mark(name: str, best: Sequence[str], chosen: str | None) -> str:
    return "taken" if name == chosen else "front" if name in best else ""


def _choice(rule: Rule, chosen: str | None, before: Mapping[str, float]) -> str:
    title, least = MEANINGS[rule.utility].title, rule.floor * before[rule.utility]
    if chosen is None:
        return f"None keeps {title} at {least:.3f}: try lower learning rates or more retain weight."
    return f"Taken: {chosen}, the best forgetting with {title} of at least {least:.3f}."


def _draw(
    folder: RunFolder,
    rule: Rule,
    means: Mapping[str, Mapping[str, float]],
    numbered: Mapping[str, str],
    best: Sequence[str],
    chosen: str | None,
) -> None:
    legend = "".join(f"\n{numbered[name]}: {name}" for name in best)
    plot_front(
        folder.path / PICTURE,
        {numbered.get(name, name): (n[rule.forget], n[rule.utility]) for name, n in means.items()},
        front=[numbered[name] for name in best],
        chosen=None if chosen is None else numbered[chosen],
        floor=rule.floor * means["before"][rule.utility],
        titles=(f"{MEANINGS[rule.forget].title}{legend}", MEANINGS[rule.utility].title),
    )
