# SPDX-License-Identifier: Apache-2.0
"""Published evaluation logs, every aggregate computed again from their items.

    python scripts/reproduce/check_logs.py DIR

DIR holds folders as open-unlearning publishes them: tofu_MODEL_full/evals_SPLIT/TOFU_EVAL.json,
tofu_MODEL_RETAIN/TOFU_EVAL.json, muse_MODEL_CORPUS_target/MUSE_EVAL.json and ..._retrain. Prints,
for each number, in how many logs it was found and the largest difference from what was published;
exits with 1 where one is too large.
"""

import argparse
import json
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unilogit_jax.metrics import summarize_muse_log, summarize_tofu_log

ALLOWED = {"forget_quality": 1e-6}
"""Largest difference; of the p-value, which spans 239 orders of magnitude, relative."""
OTHERS = 1e-9


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, metavar="DIR")
    worst: dict[str, list[float]] = {}
    for log, reference, summarize in logs(parser.parse_args().folder):
        with warnings.catch_warnings(action="ignore"):
            found = summarize(log, reference)
        for name, value in found.items():
            published = log.get(name, {}).get("agg_value")
            if published is not None and (reference is not None or name != "privleak"):
                gap = abs(value - published)
                gap /= abs(published) if name == "forget_quality" else 1
                worst.setdefault(name, []).append(gap)
    if not worst:
        print("no log found; -h says how DIR has to look.")
        return 2
    print("| number | logs | largest difference | allowed |\n|---|---|---|---|")
    bad = False
    for name, gaps in worst.items():
        allowed = ALLOWED.get(name, OTHERS)
        bad |= max(gaps) > allowed
        print(f"| {name} | {len(gaps)} | {max(gaps):.1e} | {allowed:.0e} |")
    return int(bad)


def logs(folder: Path) -> Iterator[tuple[Any, Any, Any]]:
    """Every log with its reference and what sums it up."""
    for path in sorted(folder.glob("tofu_*_full/evals_*/TOFU_EVAL.json")):
        percent = path.parent.name.removeprefix("evals_forget")
        retain = path.parents[1].name.removesuffix("full") + f"retain{100 - int(percent)}"
        yield read(path), read(folder / retain / path.name), summarize_tofu_log
    for path in sorted(folder.glob("tofu_*_retain*/TOFU_EVAL.json")):
        yield read(path), None, summarize_tofu_log
    for path in sorted(folder.glob("muse_*_target/MUSE_EVAL.json")):
        retrained = path.parent.name.removesuffix("target") + "retrain"
        yield read(path), read(folder / retrained / path.name), summarize_muse_log
    for path in sorted(folder.glob("muse_*_retrain/MUSE_EVAL.json")):
        yield read(path), None, summarize_muse_log


def read(path: Path) -> Any:
    return json.loads(path.read_text())


if __name__ == "__main__":
    sys.exit(main())
