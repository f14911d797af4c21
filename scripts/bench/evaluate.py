# SPDX-License-Identifier: Apache-2.0
"""TOFU's whole suite beside torch and transformers: CPU seconds, the same weights and rows.

    python scripts/bench/evaluate.py DIR --items 32
    python scripts/bench/evaluate.py DIR --items 16 --fit 40

DIR holds TOFU's files. A Llama of 35 M parameters with random weights, a tokenizer trained on the
rows, one thread, float32. torch does what the usual framework does: a forward with full logits for
every metric by itself (probabilities of true, paraphrased and wrong answers, exact memorisation,
extraction strength, four membership attacks on both sides), and greedy answers with a cache; here
one packed pass gives all of these, and answers have a cache too. Both print what they found, which
has to agree; time is process CPU seconds, the compilation of ours included and by itself. Random
weights never end an answer; --fit trains them on the true answers first, as a model is whose
forgetting is measured, so that answers end by themselves.
"""

import argparse
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import one_thread  # noqa: F401
import optax
import step_shape as bench
import torch
import transformers

from unilogit_jax import models
from unilogit_jax.benchmarks import load_tofu
from unilogit_jax.data import Source, encode_probes, probe_prompt, train_tokenizer
from unilogit_jax.evaluation import Evaluator, summarize
from unilogit_jax.sharding import make_mesh
from unilogit_jax.types import IGNORE

PASSES = {"forget": 6, "holdout": 4}
"""Metrics that make a forward of their own over the true answers of a panel; one elsewhere."""
BATCH = 16


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", metavar="DIR")
    parser.add_argument("--items", type=int, default=32, help="of each panel")
    parser.add_argument("--new-tokens", type=int, default=200)
    parser.add_argument("--fit", type=int, default=0, metavar="N", help="passes over the answers")
    options = parser.parse_args()
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[0]})
    torch.set_num_threads(1)
    task = load_tofu(Source(dir=options.folder, forget="forget10", retain="retain90"))
    texts = [f"Question: {row.question}\nAnswer: {row.answer}" for row in task.forget]
    tokenizer = train_tokenizer(texts, vocab_size=8000)
    task = replace(task, retain=())
    config = replace(bench.our_config(), max_length=512)
    mesh = make_mesh(devices=jax.devices()[:1])
    model, params = models.init(config, jax.random.key(0), mesh=mesh)
    evaluator = Evaluator(
        model,
        tokenizer,
        task,
        mesh=mesh,
        template="plain",
        max_new_tokens=options.new_tokens,
        max_items=options.items,
        batch_size=BATCH,
    )
    if options.fit:
        params = fitted(model, params, tokenizer, evaluator.probes, options.fit)
    times, results = [], []
    for _ in range(2):
        began = time.process_time()
        evaluation = evaluator(params)
        results.append((evaluation, summarize(evaluation)))
        times.append(time.process_time() - began)
    evaluation, ours = results[-1]
    with tempfile.TemporaryDirectory() as folder:
        models.save(Path(folder), model, params)
        net = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    began = time.process_time()
    nll, answers = by_torch(net, tokenizer, evaluator.probes, task, options.new_tokens)
    theirs = time.process_time() - began
    wanted = [item.nll for item in evaluation.items]
    worst = float(np.max(np.abs(np.array(wanted) - nll)))
    said = {item.answer for item in evaluation.items if item.answer is not None}
    print(f"{len(nll)} probes; largest difference of a nll {worst:.1e}; ", end="")
    print(f"{len(said & answers)} of {len(said)} answers the same; {len(ours)} numbers")
    print("| | CPU s | torch / this |\n|---|---|---|")
    print(f"| torch, a pass for each metric | {theirs:.1f} | 1.00 |")
    print(f"| ours, compiled | {times[1]:.1f} | {theirs / times[1]:.2f} |")
    print(f"| ours, with compilation | {times[0]:.1f} | {theirs / times[0]:.2f} |")
    return 0


def fitted(model: Any, params: Any, tokenizer: Any, probes: Any, passes: int) -> Any:
    """The weights after so many passes over the true answers, in batches of four."""
    rows = encode_probes(tokenizer, [(p, p.answer) for p in probes], template="plain")
    optimizer = optax.adam(1e-3)

    @jax.jit
    def update(params: Any, state: Any, tokens: Any, labels: Any) -> tuple[Any, Any, Any]:
        def loss(params: Any) -> Any:
            logits = model.apply({"params": params}, tokens).logits()
            each = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(labels, 0))
            return jnp.mean(each, where=labels != IGNORE)

        value, gradient = jax.value_and_grad(loss)(params)
        change, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, change), state, value

    state, rng, value = optimizer.init(params), np.random.default_rng(0), np.nan
    for _ in range(passes * len(rows) // 4):
        at = rng.permutation(len(rows))[:4]
        params, state, value = update(params, state, rows.tokens[at], rows.labels[at])
    print(f"loss of the last batch after fitting: {float(value):.3f}")
    return params


@torch.no_grad()
def by_torch(
    net: Any, tokenizer: Any, probes: Any, task: Any, new_tokens: int
) -> tuple[np.ndarray, set[str]]:
    """The mean nll of every true answer, and all generated answers."""
    panels = {panel.name: panel for panel in task.panels}
    nll, answers = [], set()
    for group in dict.fromkeys(probe.group for probe in probes):
        own = [probe for probe in probes if probe.group == group]
        again = [
            losses(net, tokenizer, [(p, p.answer) for p in own])
            for _ in range(PASSES.get(group, 1))
        ]
        nll.append(again[-1])
        for k in range(max(len(p.wrong) for p in own)):
            losses(net, tokenizer, [(p, p.wrong[k]) for p in own])
        if own[0].paraphrase is not None:
            losses(net, tokenizer, [(p, p.paraphrase) for p in own])
        if panels[group].new_tokens != 0:
            answers |= generated(net, tokenizer, own, new_tokens)
    return np.concatenate(nll), answers


def losses(net: Any, tokenizer: Any, answered: Any) -> np.ndarray:
    """A forward with full logits in batches padded to the longest row."""
    found = []
    for start in range(0, len(answered), BATCH):
        rows = encode_probes(tokenizer, answered[start : start + BATCH], template="plain")
        tokens = torch.tensor(rows.tokens, dtype=torch.long)
        labels = torch.tensor(rows.labels, dtype=torch.long)
        mask = torch.arange(rows.length)[None, :] < torch.tensor(rows.lengths)[:, None]
        logits = net(input_ids=tokens, attention_mask=mask.long()).logits.float()
        each = torch.nn.functional.cross_entropy(
            logits.transpose(1, 2), labels, ignore_index=IGNORE, reduction="none"
        )
        found.append((each.sum(1) / (labels != IGNORE).sum(1)).numpy())
    return np.concatenate(found)


def generated(net: Any, tokenizer: Any, probes: Any, new_tokens: int) -> set[str]:
    """Greedy answers, prompts padded on the left."""
    texts: set[str] = set()
    prompts = sorted((probe_prompt(tokenizer, p, template="plain") for p in probes), key=len)
    for start in range(0, len(prompts), BATCH):
        some = prompts[start : start + BATCH]
        longest = max(map(len, some))
        tokens = torch.tensor([[0] * (longest - len(p)) + p for p in some])
        mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in some])
        out = net.generate(
            input_ids=tokens,
            attention_mask=mask,
            max_new_tokens=new_tokens,
            do_sample=False,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id or tokenizer.eos_token_id,
        )
        decoded = tokenizer.batch_decode(out[:, longest:], skip_special_tokens=True)
        texts |= {text.strip() for text in decoded}
    return texts


if __name__ == "__main__":
    sys.exit(main())
