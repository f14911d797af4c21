# SPDX-License-Identifier: Apache-2.0
"""How full the rows of an unlearning stage on TOFU are, padded and packed.

    python scripts/bench/packing.py FOLDER                 with forget10.json and retain90.json
    python scripts/bench/packing.py FOLDER --tokenizer DIR

Without a tokenizer one of 8192 tokens is trained on the texts.
"""

import argparse
import sys

from unilogit_jax.benchmarks import BENCHMARKS
from unilogit_jax.data import (
    PackingWish,
    Source,
    encode,
    load_tokenizer,
    train_tokenizer,
    unlearning_batches,
)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder")
    parser.add_argument("--tokenizer")
    parser.add_argument("--epochs", type=int, default=5)
    options = parser.parse_args()
    source = Source(dir=options.folder, forget="forget10", retain="retain90")
    task = BENCHMARKS["tofu"](source)
    texts = [t for e in (*task.forget, *task.retain) for t in (e.question or "", e.answer)]
    if options.tokenizer:
        tokenizer = load_tokenizer(options.tokenizer)
    else:
        tokenizer = train_tokenizer(texts, vocab_size=8192)
    forget, retain = (encode(tokenizer, e) for e in (task.forget, task.retain))
    print(
        f"forget {len(forget)} rows, mean {forget.lengths.mean():.1f}, max {forget.lengths.max()}"
    )
    print("\n| forget + retain rows | packed shape | real per position | padded to the longest |")
    print("|---|---|---|---|")
    for size in (4, 16, 32):
        updates = options.epochs * len(forget) // size
        for length in (512, 1024):
            packed = unlearning_batches(
                forget,
                retain,
                batch_size=size,
                retain_size=size,
                seed=0,
                packing=PackingWish(updates=updates, length=length),
            )
            plan = packed.packing
            assert plan is not None
            real = plan.efficiency * plan.rows * plan.length
            padded = real / (2 * size * max(forget.length, retain.length))
            shape = f"{plan.rows} x {plan.length}"
            print(f"| {size} + {size} | {shape} | {plan.efficiency:.3f} | {padded:.3f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
