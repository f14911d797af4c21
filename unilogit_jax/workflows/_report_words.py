# SPDX-License-Identifier: Apache-2.0
"""What a report says in words: title, verdict, intervals, caveats, files, next commands."""

import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from unilogit_jax.config import Experiment, method_label
from unilogit_jax.run import RunFolder
from unilogit_jax.workflows._verdict import Verdict, judge

MALFORMED_CAVEAT = (
    "Plain Unilogit drives every answer token to probability 1/V, function words included, so "
    "answers about what was forgotten come out malformed, while gold, which never saw it, answers "
    "fluently."
)
KS_CAVEAT = (
    "The truth-ratio KS distance is a ratio of two small probabilities and cannot see a collapsed "
    "model; never read it without the malformed rate and the retain accuracy."
)
NO_PROOF_CAVEAT = (
    "Unlearning changes what a model says; these numbers are no proof that nothing is left inside."
)
QUOTES_CAVEAT = (
    "The answers above quote what was to be forgotten. Where this page is to be filed without it: "
    "unilogit report {run} --no-answers."
)
FILES = (
    ("config.yaml", "the complete configuration; running it again repeats the run"),
    ("metrics.jsonl", "one line per logged update"),
    ("summary.json", "every number of the table"),
    ("eval/", "every question with its scores and answers, per model"),
    ("checkpoints/", "weights and optimizer per stage; what --resume reads"),
    ("ledger.json", "the requests served: when, how many rows, their digest; not the rows"),
    ("record.json", "cost, devices, digests of rows and weights"),
    ("attack.json", "what attacks brought back"),
    ("log.txt", "everything that was printed"),
    ("env.json", "versions, command line, times"),
)


def title_of(experiment: Experiment, *, finetuned: bool) -> str:
    """What a run is called."""
    what = "finetune" if finetuned else method_label(experiment.method)
    return f"{experiment.name}: {what}"


def verdict_of(summaries: Mapping[str, Mapping[str, float]]) -> Verdict | None:
    """Whether the run did its job; None for one that only trained a model."""
    if "before" not in summaries or "after" not in summaries:
        return None
    return judge(summaries["before"], summaries["after"])


def next_commands(run: RunFolder, experiment: Experiment, *, finetuned: bool) -> tuple[str, ...]:
    """What to try next."""
    if finetuned:
        switches = "model.scratch=null eval.gold=false " * (experiment.model.scratch is not None)
        return (f"unilogit unlearn CONFIG {switches}model.weights={run.path}",)
    toy = experiment.data.benchmark == "toy"
    return (
        f'unilogit ask {run.path} "your question"',
        f"unilogit export {run.path} my-model",
        f"unilogit show {experiment.name}" if toy else f"unilogit attack {run.path}",
    )


def activation() -> tuple[str, ...]:
    """What to type first, where a shell would not find `unilogit`: after `make quickstart`, say."""
    script = Path(sys.prefix) / "bin" / "activate"
    if shutil.which("unilogit") or not script.is_file():
        return ()
    here = script.is_relative_to(Path.cwd())
    return (f". {script.relative_to(Path.cwd()) if here else script}",)


def metric_note(values: Mapping[str, Mapping[str, np.ndarray]]) -> str:
    """What the intervals are; `values` are column -> number -> items' values."""
    first = next(iter(values.values()))
    counts = [
        f"{len(first[f'{group}_probability'])} items {what}"
        for group, what in (("forget", "to forget"), ("retain", "to keep"))
        if f"{group}_probability" in first
    ]
    asked = f" ({', '.join(counts)})" if counts else ""
    return (
        f"In brackets: the 95 % bootstrap interval over items{asked}, where the number might lie "
        "had other questions of the kind been asked; not what other seeds would give, for which "
        "unilogit compare takes several runs. Where all items agree there is none: of n items that "
        "agree, up to 3 in n others may still differ."
    )


def caveats_of(
    run: RunFolder, summaries: Mapping[str, Mapping[str, float]], *, quoted: bool
) -> Sequence[str]:
    """What the numbers do not show, or what the page must not be filed with."""
    caveats = []
    if "after" in summaries:
        caveats.append(NO_PROOF_CAVEAT)
    if any(numbers.get("forget_malformed", 0) > 0.5 for numbers in summaries.values()):
        caveats.append(MALFORMED_CAVEAT)
    if any("forget_ks_distance" in numbers for numbers in summaries.values()):
        caveats.append(KS_CAVEAT)
    if quoted:
        caveats.append(QUOTES_CAVEAT.format(run=run.path))
    return caveats
