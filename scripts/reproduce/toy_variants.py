# SPDX-License-Identifier: Apache-2.0
"""Which target comes closest to a model that never saw the data, on the toy benchmark?

Plain and repaired Unilogit, NPO, UnDIAL and gradient difference, in KL per token to the gold model.

    python scripts/reproduce/toy_variants.py results.jsonl             # half an hour on one core
    python scripts/reproduce/toy_variants.py results.jsonl --table     # prints what is there

The lines behind the table in docs/targets.md are in toy_variants.jsonl beside this file.

For each corpus seed a target model, a gold model without the forgotten people and a second gold
(other weights, other order) are trained; the second gold is the noise floor. Every method is tuned
on corpus seed 0 alone, over the same four pairs of learning rate and retain weight (and its own
strength), by the sum of three things named beforehand: KL to gold over that of the untouched model,
share of true answers generated, and ten times what retain accuracy falls below 0.97. Then it is
measured on seeds 1, 2 and 3. Each finished run is a line of the file; a second call goes on.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from toy_models import (
    Corpus,
    distances,
    forget_probes,
    logprobs,
    make_corpus,
    unlearned,
    value_of,
)

from unilogit_jax.evaluation import summarize
from unilogit_jax.methods import GradDiff, Npo, Undial, Unilogit, Unlearning
from unilogit_jax.run.caches import program_cache

RATES = ((1e-3, 4.0), (1e-3, 1.0), (2e-3, 4.0), (5e-4, 1.0))
"""Learning rate and retain weight."""
TUNED, REPORTED = 0, (1, 2, 3)
INITIAL: dict[str, Any] = {"alternatives": "initial", "top_k": 8}
METHODS: dict[str, tuple[Unlearning, ...]] = {
    "unilogit": (Unilogit(),),
    "unilogit forward": (Unilogit(direction="forward"),),
    "tau ngram": (Unilogit(tau="ngram"),),
    "tau name_swap": (Unilogit(tau="name_swap"),),
    "initial": (Unilogit(**INITIAL),),
    "initial + ngram": (Unilogit(tau="ngram", **INITIAL),),
    "initial + ngram, forward": (Unilogit(tau="ngram", direction="forward", **INITIAL),),
    "initial + name_swap, forward": (Unilogit(tau="name_swap", direction="forward", **INITIAL),),
    "initial + ngram, select": (
        Unilogit(tau="ngram", direction="forward", select=True, **INITIAL),
    ),
    "sequence": (Unilogit(unit="sequence"),),
    "npo": tuple(Npo(beta=beta) for beta in (0.1, 0.5, 1.0, 2.0)),
    "undial": tuple(Undial(beta=beta) for beta in (3.0, 7.0, 10.0)),
    "grad_diff": (GradDiff(),),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--only", nargs="*", default=list(METHODS), choices=list(METHODS))
    options = parser.parse_args()
    if cache := program_cache():
        jax.config.update("jax_compilation_cache_dir", str(cache))
    done = read(options.results)
    if not options.table:
        for line in runs(done, options.only):
            done.append(line)
            with options.results.open("a") as file:
                file.write(json.dumps(line) + "\n")
    print(table(done))
    return 0


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def runs(done: list[dict[str, Any]], names: list[str]) -> Iterator[dict[str, Any]]:
    """The lines that are missing; the caller adds each to `done`, which `best` reads."""
    have = {(x["seed"], x["name"], x["setting"]) for x in done}
    for seed in (TUNED, *REPORTED):
        corpus: Corpus | None = None
        for name in ("floor", "start", *names):
            settings = settings_of(name) if seed == TUNED else [best(done, name)]
            for setting, method, rate in settings:
                if (seed, name, setting) in have:
                    continue
                corpus = make_corpus(seed) if corpus is None else corpus
                numbers = measure(corpus, name, method, rate)
                line = {"seed": seed, "name": name, "setting": setting, **numbers}
                print(json.dumps(line), file=sys.stderr, flush=True)
                yield line


def settings_of(name: str) -> list[tuple[str, Unlearning | None, float]]:
    if name in ("floor", "start"):
        return [("", None, 0.0)]
    found = []
    for method in METHODS[name]:
        own = f"beta {method.beta:g}, " if isinstance(method, (Npo, Undial)) else ""
        for rate, weight in RATES:
            setting = f"{own}{rate:g} / {weight:g}"
            found.append((setting, replace(method, retain_weight=weight), rate))
    return found


def best(done: list[dict[str, Any]], name: str) -> tuple[str, Unlearning | None, float]:
    """The setting of least score on the tuning corpus."""
    base = next(x["kl"] for x in done if (x["seed"], x["name"]) == (TUNED, "start"))
    mine = [x for x in done if (x["seed"], x["name"]) == (TUNED, name)]
    chosen = min(mine, key=lambda x: score(x, base))["setting"]
    return next(x for x in settings_of(name) if x[0] == chosen)


def score(line: dict[str, Any], base: float) -> float:
    return line["kl"] / base + line["leak"] + 10 * max(0.0, 0.97 - line["retain_exact_match"])


def measure(corpus: Corpus, name: str, method: Unlearning | None, rate: float) -> dict[str, float]:
    """Distances to both gold models on questions that training never asked, and behaviour."""
    if name == "floor":
        first, second = corpus.golds
        return distances(corpus, second, golds=(first,)) | {"leak": 0.0, "retain_exact_match": 1.0}
    params = corpus.target if method is None else unlearned(corpus, method, rate)
    evaluation = corpus.evaluator(params)
    numbers = summarize(evaluation)
    values = [value_of(p) for p in forget_probes(corpus.prepared)]
    answers = [item.answer for item in evaluation.items if item.group == "forget"]
    leak = np.mean([value in answer for value, answer in zip(values, answers, strict=True)])
    found = distances(corpus, logprobs(corpus.prepared, params, corpus.held_out))
    keys = ("forget_malformed", "retain_exact_match", "forget_probability", "forget_choice")
    return found | {"leak": float(leak)} | {key: numbers[key] for key in keys}


def table(lines: list[dict[str, Any]]) -> str:
    """Means and standard deviations over the reported corpora."""
    keys = ("kl", "kl_template", "kl_name", "kl_value", "forget_malformed", "leak")
    keys += ("forget_probability", "retain_exact_match")
    head = "| method | setting | " + " | ".join(keys) + " |"
    out = [head, "|---" * (len(keys) + 2) + "|"]
    shown = []
    for name in dict.fromkeys(x["name"] for x in lines):
        mine = [x for x in lines if x["name"] == name and x["seed"] in REPORTED]
        if not mine:
            continue
        cells = []
        for key in keys:
            values = [x[key] for x in mine if key in x]
            spread = f" ± {np.std(values, ddof=1):.2f}" if len(values) > 1 else ""
            cells.append(f"{np.mean(values):.2f}{spread}" if values else "-")
        shown.append((float(np.mean([x["kl"] for x in mine])), name, mine[0]["setting"], cells))
    for _, name, setting, cells in sorted(shown):
        out.append(f"| {name} | {setting} | " + " | ".join(cells) + " |")
    return "\n".join(out)


if __name__ == "__main__":
    sys.exit(main())
