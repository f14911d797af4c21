# SPDX-License-Identifier: Apache-2.0
"""The table of attacks: what each does to the models of a run, and which options it has."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np

from unilogit_jax import metrics
from unilogit_jax.data import Probe
from unilogit_jax.data.prompts import probe_of
from unilogit_jax.errors import DataError
from unilogit_jax.evaluation import MEANINGS
from unilogit_jax.evaluation.robustness import (
    INSTRUCTION,
    PREFIX,
    ROLE,
    ROUNDINGS,
    SHOTS,
    begun,
    gives_away,
    in_front,
    leak_rule,
    leak_shares,
    make_lens,
    other_words,
    quantize,
    shown_before,
)
from unilogit_jax.types import Items
from unilogit_jax.workflows._bench import BOTH, Bench, mean_probability, rows_of
from unilogit_jax.workflows._findings import Curve, Found, Row
from unilogit_jax.workflows._relearn import relearn
from unilogit_jax.workflows._rows import read_task


def coarse_weights(bench: Bench) -> Found:
    """Every model with its weights rounded."""
    names = BOTH if bench.forget else tuple(MEANINGS)
    rows = rows_of("quantize", "as it is", bench.plain, names)
    for name, rounding in ROUNDINGS.items():
        with bench.console.stage(f"rounding to {rounding.title}") as progress:
            change = partial(quantize, bench.prepared.model, name=name)
            found = bench.measured(bench.usual, change, progress=progress.items)
            rows += rows_of("quantize", rounding.title, found, names)
    return Found(rows)


def paraphrase(bench: Bench) -> Found:
    """Forget questions in other words, beside the words of training."""
    probes = bench.some(_other_words(bench))
    if not probes:
        bench.console.line("paraphrase: this benchmark has no forget questions in other words.")
        return Found()
    answers = {probe.answer for probe in probes}
    trained = bench.some(
        replace(probe_of(row), group=probes[0].group)
        for row in bench.prepared.task.forget
        if row.answer in answers
    )
    rows = []
    for setting, asked in (("in the words of training", trained), ("in other words", probes)):
        with bench.console.stage(f"asking {setting}") as progress:
            found = bench.measured(bench.asking(asked), progress=progress.items)
            rows += rows_of("paraphrase", setting, found)
    return Found(rows)


def prompts(bench: Bench) -> Found:
    """Forget questions behind a role, an instruction, examples; answers that are begun."""
    if not bench.asked:
        bench.console.line("prompts: this benchmark asks no questions about the rows to forget.")
        return Found()
    keep, seed = bench.prepared.task.retain, bench.options.seed
    # An opening makes a prompt of its own, which has no place for examples.
    shows = any(row.question is not None for row in keep)
    shows = shows and all(probe.opening is None for probe in bench.asked)
    dresses = {
        "role prompt": [in_front(bench.asked, ROLE)],
        "instruction": [in_front(bench.asked, INSTRUCTION)],
        "few-shot": [
            shown_before(bench.asked, keep, count, seed=seed) for count in range(SHOTS, 0, -1)
        ]
        if shows
        else [],
    }
    rows = rows_of("prompts", "asked as it is", bench.plain)
    for setting, choices in dresses.items():
        probes = next((probes for probes in choices if bench.fits(probes)), None)
        if probes is None:
            bench.console.line(
                f"prompts: no {setting} here: nothing to show, or no room in the model's rows."
            )
            continue
        with bench.console.stage(f"asking with {setting}") as progress:
            shots = f", {len(probes[0].shots)} shown" if setting == "few-shot" else ""
            found = bench.measured(bench.asking(probes), progress=progress.items)
            rows += rows_of("prompts", setting + shots, found)
    with bench.console.stage("beginning the answers") as progress:
        rows += _begun(bench, progress.items)
    return Found(rows)


def sample(bench: Bench) -> Found:
    """Several answers to each forget question, drawn by chance."""
    if not bench.asked:
        bench.console.line("sample: this benchmark asks no questions about the rows to forget.")
        return Found()
    options, count = bench.options, bench.options.samples
    evaluator = bench.asking(bench.asked)
    drawn = [bench.prompt(probe) for probe in bench.asked for _ in range(count)]
    how = {"temperature": options.temperature, "seed": options.seed}
    shares = {}
    for column, params in bench.columns.items():
        with bench.console.stage(f"drawing {len(drawn)} answers of {column}") as stage:
            tell = partial(stage.items, "answers")
            texts = bench.answers(evaluator, params, drawn, progress=tell, **how)
        shares[column] = leak_shares(
            [
                gives_away(probe, texts[k * count : (k + 1) * count])
                for k, probe in enumerate(bench.asked)
            ]
        )
    rules = ", ".join(dict.fromkeys(map(leak_rule, bench.asked)))
    setting = f"{count} answers, temperature {options.temperature:g}: {rules}"
    titles = {
        "leaking_answers": ("answers that give the truth away", "answers"),
        "leaking_questions": ("questions given away at least once", "questions"),
    }
    return Found(
        [
            Row(
                attack="sample",
                setting=setting,
                number=number,
                title=title,
                wanted="like gold",
                values={column: getattr(share, part) for column, share in shares.items()},
            )
            for number, (title, part) in titles.items()
        ]
    )


def lens(bench: Bench) -> Found:
    """What every layer would answer, read by the head."""
    if not bench.forget:
        bench.console.line("lens: this benchmark scores no answers about the rows to forget.")
        return Found()
    prepared = bench.prepared
    size = prepared.experiment.eval.batch_size
    look = make_lens(prepared.model, batch_size=size, mesh=prepared.mesh)
    rows, found = bench.encoded(bench.forget), {}
    for column, params in bench.columns.items():
        with bench.console.stage(f"looking into {column}") as progress:
            found[column] = look(params, rows, partial(progress.items, "texts"))
    curve = Curve(
        attack="lens",
        title="each layer read by the final norm and the head",
        x="layer",
        y="probability of the true answer",
        lines={
            column: [[k, float(x)] for k, x in enumerate(layers, start=1)]
            for column, layers in found.items()
        },
    )
    highest = Row(
        attack="lens",
        setting="the layer that holds most",
        number="highest_probability",
        title="highest probability of the true answer",
        wanted="like gold",
        values={column: float(layers.max()) for column, layers in found.items()},
    )
    return Found([highest], [curve])


class Attack(NamedTuple):
    """An attack, and the options that its result depends on."""

    run: Callable[[Bench], Found]
    options: tuple[str, ...] = ()


ATTACKS = {
    "relearn": Attack(relearn, ("rows", "relearn_on", "updates", "every", "learning_rate", "seed")),
    "quantize": Attack(coarse_weights),
    "paraphrase": Attack(paraphrase),
    "prompts": Attack(prompts, ("seed",)),
    "sample": Attack(sample, ("samples", "temperature", "seed")),
    "lens": Attack(lens),
}
"""Name -> attack, in the order in which they are made."""


def _other_words(bench: Bench) -> tuple[Probe, ...]:
    """Those of the task, or those that it has when asked for."""
    task, experiment = bench.prepared.task, bench.prepared.experiment
    found = other_words(task)
    if found or experiment.data.benchmark != "tofu":
        return found
    data = experiment.data.model_copy(update={"questions": "paraphrased"})
    try:
        return other_words(read_task(experiment.model_copy(update={"data": data})))
    except DataError:  # its file is not there, which is no failure of the other attacks
        return ()


def _begun(bench: Bench, progress: Items) -> list[Row]:
    """The first tokens of the true answer are given; how likely the rest is, and what comes."""
    given = begun(bench.encoded(bench.asked))
    evaluator = bench.asking(bench.asked)
    rests = bench.prepared.tokenizer.batch_decode(given.rests, skip_special_tokens=True)
    found = {}
    for column, params in bench.columns.items():
        scores = bench.score(params, given.rows, partial(progress, "texts"))
        tell = partial(progress, "answers")
        texts = bench.answers(evaluator, params, given.prompts, progress=tell)
        rouges = metrics.rouge_many(texts, rests)
        found[column] = {
            "forget_probability": mean_probability(scores),
            "forget_rouge_l": float(np.mean([rouge.rougeL_recall for rouge in rouges])),
            "forget_exact_match": float(scores.exact.mean()),
        }
    return rows_of("prompts", f"first {PREFIX:.0%} of the answer given, the rest", found)
