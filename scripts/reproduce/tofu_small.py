# SPDX-License-Identifier: Apache-2.0
"""TOFU at the scale of a laptop: which method ends closest to a model that never saw the authors?

A Llama-shaped model of 0.87 million weights learns all of TOFU from scratch; each method makes it
forget a tenth; two gold models never saw that tenth, and how far they are apart is the noise floor.

    python scripts/reproduce/tofu_small.py results.jsonl --data TOFU --work FOLDER    # stage 1
    python scripts/reproduce/tofu_small.py results.jsonl --data TOFU --work FOLDER --stage 2
    python scripts/reproduce/tofu_small.py results.jsonl --table
    python scripts/reproduce/tofu_small.py results.jsonl --plot front.png

Stage 1 runs every method with every setting on seed 0. Stage 2 takes of each method the setting
chosen by a rule that was fixed beforehand, and runs it on seeds 1, 2 and 3, whose target and gold
models are others. Each finished run is a line of the results, and a second call goes on; several
processes may share the work, each with seeds of its own (--seeds), or with some of the methods
(--only) once the models of a seed are made (--models all makes only them, --models gold2 one of
them, beside that). DATA holds the files
of the data set locuslab/TOFU.

The rule: of the settings that keep at least 95 % of what the start model knows of the rows to keep
(harmonic mean of probability and ROUGE-L), the one of least KL to gold; if none does, the one that
keeps most. It looks at gold, which nobody has in earnest.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tofu_models import Models

from unilogit_jax.run.caches import program_cache

SEEDS = {1: (0,), 2: (1, 2, 3)}
GRID = tuple(
    (f"unlearn.learning_rate={rate}", f"unlearn.epochs={epochs}")
    for rate in ("5e-4", "2e-3")
    for epochs in (2, 5)
)
ANCHORED = ("method.alternatives=initial", "method.direction=forward")
METHODS: dict[str, tuple[tuple[str, ...], ...]] = {
    "unilogit": (("method.name=unilogit",),),
    "unilogit, n-grams and initial": (("method.tau=ngram", *ANCHORED),),
    "unilogit, names and initial": (("method.tau=name_swap", "method.tau_names=8", *ANCHORED),),
    "unilogit, whole answers": (("method.unit=sequence",),),
    "npo": tuple(("method.name=npo", f"method.beta={beta}") for beta in (0.1, 0.5, 2)),
    "undial": tuple(("method.name=undial", f"method.beta={beta}") for beta in (3, 7)),
    "simnpo": (("method.name=simnpo",),),
    "grad_diff": (("method.name=grad_diff",),),
}
"""Each with the values of its own that are tried; all keep by cross entropy of retain rows."""
FLOOR = 0.95
SHOWN = (
    *("kl", "kl_template", "kl_name", "kl_value", "kl_paraphrased", "malformed"),
    *("forget_probability", "forget_rouge_l", "forget_ks_distance", "kept"),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("--data", type=Path, help="folder with TOFU's files")
    parser.add_argument("--work", type=Path, help="folder for models and runs")
    parser.add_argument("--stage", type=int, choices=list(SEEDS), default=1)
    parser.add_argument("--seeds", type=int, nargs="*", help="only these of the stage's seeds")
    parser.add_argument("--only", nargs="*", default=list(METHODS), choices=list(METHODS))
    parser.add_argument(
        "--setting", nargs="*", metavar="KEY=VALUE", help="run this in place of what was chosen"
    )
    parser.add_argument("--models", choices=["all", "gold2"], help="make only these")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="for all runs")
    parser.add_argument("--table", action="store_true", help="print the tables and end")
    parser.add_argument("--plot", type=Path, help="draw the front and end")
    options = parser.parse_args()
    if options.plot:
        draw(read(options.results), options.plot)
    elif options.table:
        known = read(options.results)
        print(table(known), excesses(known), sep="\n\n")
    else:
        if options.data is None or options.work is None:
            parser.error("--data and --work are needed to run anything")
        if cache := program_cache():
            jax.config.update("jax_compilation_cache_dir", str(cache))
        for line in lines(options):
            print(json.dumps(line), file=sys.stderr, flush=True)
            with options.results.open("a") as file:
                file.write(json.dumps(line) + "\n")
    return 0


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def lines(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Those that are missing."""
    for seed in options.seeds or SEEDS[options.stage]:
        models = Models(options.work / f"seed-{seed}", options.data, seed, options.set)
        if options.models == "gold2":
            models.second_gold()
            continue
        known = read(options.results)
        have = {(x["seed"], x["name"], x["setting"]) for x in known}
        if (seed, "start", "") not in have:
            for name, numbers in models.numbers().items():
                yield {"seed": seed, "name": name, "setting": ""} | numbers
        for name in () if options.models else options.only:
            if options.setting is not None:
                chosen = [tuple(options.setting)]
            else:
                chosen = settings_of(name) if options.stage == 1 else [best(known, name)]
            for setting in chosen:
                if (seed, name, " ".join(setting)) not in have:
                    numbers = models.run(name, setting)
                    yield {"seed": seed, "name": name, "setting": " ".join(setting)} | numbers


def settings_of(name: str) -> list[tuple[str, ...]]:
    return [(*own, *pair) for own in METHODS[name] for pair in GRID]


def best(known: list[dict[str, Any]], name: str) -> tuple[str, ...]:
    """The setting chosen on the first seed."""
    first = [x for x in known if x["seed"] in SEEDS[1]]
    start = next(x for x in first if x["name"] == "start")
    mine = [x for x in first if x["name"] == name]
    good = [x for x in mine if x["kept"] >= FLOOR * start["kept"]]
    if good:
        return tuple(min(good, key=lambda x: x["kl"])["setting"].split())
    return tuple(max(mine, key=lambda x: x["kept"])["setting"].split())


def table(known: list[dict[str, Any]]) -> str:
    """Means and standard deviations of stage 2 where there are some, else stage 1's choice."""
    shown = []
    for name in dict.fromkeys(x["name"] for x in known):
        both = chosen_runs(known, name)
        own = [x for x in both if x["seed"] in SEEDS[2]] or both
        cells = [cell([x[key] for x in own if key in x]) for key in SHOWN]
        setting = own[0]["setting"].replace("method.", "").replace("unlearn.", "")
        shown.append((np.mean([x.get("kl", 0.0) for x in own]), [name, setting, *cells]))
    return markdown(["method", "setting", *SHOWN], [row for _, row in sorted(shown)])


def excesses(known: list[dict[str, Any]]) -> str:
    """KL above that of two gold models, and what is kept of start's, seed by seed."""
    runs = {name: chosen_runs(known, name) for name in ("start", "floor", *METHODS)}
    at = {name: {x["seed"]: x for x in own} for name, own in runs.items()}
    seeds = sorted(at["floor"])
    rows = []
    for name in ("start", *METHODS):
        own = [seed for seed in seeds if seed in at[name]]
        above = [at[name][seed]["kl"] - at["floor"][seed]["kl"] for seed in own]
        kept = [at[name][seed]["kept"] / at["start"][seed]["kept"] for seed in own]
        new = [x for seed, x in zip(own, above, strict=True) if seed in SEEDS[2]]
        row = [name, *(f"{x:.2f}" for x in above), cell(new), " ".join(f"{x:.0%}" for x in kept)]
        rows.append((np.mean(above), row))
    heads = ["above the floor", *(f"seed {seed}" for seed in seeds), "stage 2", "kept of start"]
    return markdown(heads, [row for _, row in sorted(rows)])


def chosen_runs(known: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """Those of a model, or of a method in its chosen setting."""
    setting = " ".join(best(known, name)) if name in METHODS else ""
    return [x for x in known if x["name"] == name and x["setting"] == setting]


def markdown(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def cell(values: list[float]) -> str:
    if not values:
        return "-"
    spread = f" ± {np.std(values, ddof=1):.2f}" if len(values) > 1 else ""
    return f"{np.mean(values):.2f}{spread}"


def draw(known: list[dict[str, Any]], path: Path) -> None:
    """Every setting of stage 1: KL to gold against utility."""
    from matplotlib.figure import Figure

    first = [x for x in known if x["seed"] in SEEDS[1] and "kl" in x]
    figure = Figure(figsize=(8.0, 5.0), layout="constrained")
    axes = figure.add_subplot()
    for number, name in enumerate(("start", "floor", *METHODS)):
        own = [(x["kl"], x["kept"]) for x in first if x["name"] == name]
        if own:
            marker = "*P"[number] if number < 2 else "osD^vXhp"[number - 2]
            colour = "black" if number < 2 else f"C{number - 2}"
            axes.scatter(*zip(*own, strict=True), label=name, marker=marker, color=colour)
    start = next(x for x in first if x["name"] == "start")
    axes.axhline(FLOOR * start["kept"], linestyle="--", linewidth=1, color="gray")
    axes.set_xscale("log")
    axes.set_xlabel("KL(gold || model), nats per answer token: left is closer to gold")
    axes.set_xticks([2, 3, 4, 6, 10, 20, 40, 80], labels="2 3 4 6 10 20 40 80".split())
    axes.minorticks_off()
    axes.set_ylabel("kept of the retain rows; dashed: the least asked for")
    axes.legend(fontsize=8, ncols=2)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    sys.exit(main())
