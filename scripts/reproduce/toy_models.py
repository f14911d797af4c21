# SPDX-License-Identifier: Apache-2.0
"""The models of toy_variants.py: trained, unlearned, and how far they are from those of gold."""

import re
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from distances import by_class
from scipy.special import log_softmax

from unilogit_jax import models
from unilogit_jax.config import load_config
from unilogit_jax.data import Example, Rows, encode
from unilogit_jax.methods import Unlearning
from unilogit_jax.sharding import put_batch
from unilogit_jax.train import init_state, reference_for
from unilogit_jax.types import IGNORE
from unilogit_jax.workflows._prepare import Prepared, prepare
from unilogit_jax.workflows._programs import Program, finetune_program, unlearn_program
from unilogit_jax.workflows._targets import with_targets


class Corpus(NamedTuple):
    """One corpus seed: the models that are compared with, and what they say."""

    prepared: Prepared
    evaluator: Any
    target: Any
    held_out: Rows
    classes: np.ndarray
    """Of each supervised token: 0 template and end, 1 name, 2 value."""
    golds: tuple[np.ndarray, np.ndarray]
    """Log-probabilities of both gold models, [tokens, V]."""


def make_corpus(seed: int) -> Corpus:
    prepared = prepare(load_config("toy", f"data.seed={seed}"))
    assert prepared.retain is not None
    target = learn(prepared, prepared.everything, 10 * seed)
    examples = [Example(p.question, p.answer, "held out") for p in forget_probes(prepared)]
    data = prepared.experiment.data
    rows = encode(
        prepared.tokenizer,
        examples,
        template=data.template,
        max_length=data.max_length,
        what="held out",
    )
    golds = [learn(prepared, prepared.retain, 10 * seed + k) for k in (1, 2)]
    return Corpus(
        prepared=prepared,
        evaluator=prepared.evaluator,
        target=target,
        held_out=rows,
        classes=classes_of(prepared, rows, examples),
        golds=tuple(logprobs(prepared, params, rows) for params in golds),  # pyright: ignore
    )


def forget_probes(prepared: Prepared) -> list[Any]:
    return [p for p in prepared.task.probes if p.group == "forget"]


def learn(prepared: Prepared, rows: Rows, seed: int) -> Any:
    config, mesh = prepared.model.config, prepared.mesh
    _, params = models.init(config, jax.random.key(seed), mesh=mesh)
    return train(prepared, finetune_program(prepared, "learn", rows, params, seed=seed))


def train(prepared: Prepared, program: Program) -> Any:
    """The weights after all updates; no checkpoints, no log."""
    weights = program.weights
    state, shardings = init_state(
        weights.trained,
        program.optimizer(),
        axes=weights.axes,
        mesh=prepared.mesh,
        ref_head=weights.ref_head,
        trainable=weights.trainable,
        method_state=program.method_state(prepared),
    )
    step = program.step(prepared, shardings)
    for i in range(program.updates):
        state, _ = step(state, put_batch(program.batches(i), prepared.mesh))
    return state.params


def unlearned(corpus: Corpus, method: Unlearning, rate: float) -> Any:
    prepared = corpus.prepared
    training = prepared.experiment.unlearn.model_copy(
        update={"learning_rate": rate, "steps": 60, "batch_size": 32, "retain_ratio": 2.0}
    )
    experiment = prepared.experiment.model_copy(update={"method": method, "unlearn": training})
    prepared = replace(prepared, experiment=experiment)
    references, head = reference_for(
        method,
        models.apply_fn(prepared.model),
        corpus.target,
        prepared.rows(method),
        batch_size=experiment.eval.batch_size,
        mesh=prepared.mesh,
    )
    references = with_targets(prepared, method, references, start=corpus.target)
    program = unlearn_program(
        prepared,
        "unlearn",
        method,
        corpus.target,
        references=references,
        ref_head=head,
        last=False,
    )
    return train(prepared, program)


def logprobs(prepared: Prepared, params: Any, rows: Rows) -> np.ndarray:
    """Of every token at every supervised position, float64 [tokens, V]."""

    def forward(params: Any, tokens: Any) -> Any:
        return prepared.model.apply({"params": params}, tokens).logits()

    logits = np.asarray(jax.jit(forward)(params, jnp.asarray(rows.tokens)), np.float64)
    return log_softmax(logits[rows.labels != IGNORE], axis=-1)


def distances(
    corpus: Corpus, model: np.ndarray, golds: tuple[np.ndarray, ...] | None = None
) -> dict[str, float]:
    """KL(gold || model) per token, whole and by class of token; the mean over the gold models."""
    golds = corpus.golds if golds is None else golds
    kl = np.mean([(np.exp(gold) * (gold - model)).sum(-1) for gold in golds], axis=0)
    return by_class(kl, corpus.classes)


def value_of(probe: Any) -> str:
    """What the true answer has where wrong ones differ."""
    begin, end = span_of(probe)
    return probe.answer[begin:end]


def span_of(probe: Any) -> tuple[int, int]:
    """Characters of the value in the answer: all wrong answers have the same text around it."""
    first, last = len(probe.answer), len(probe.answer)
    for wrong in probe.wrong:
        first = min(first, same(probe.answer, wrong))
        last = min(last, same(probe.answer[::-1], wrong[::-1]))
    # To whole words: values may begin or end alike.
    begin = probe.answer.rfind(" ", 0, first + 1) + 1
    after = re.search(r"\W", probe.answer[len(probe.answer) - last :])
    return begin, len(probe.answer) - last + (after.start() if after else 0)


def same(a: str, b: str) -> int:
    """Length of the common beginning."""
    pairs = enumerate(zip(a, b, strict=False))
    return next((i for i, (x, y) in pairs if x != y), min(len(a), len(b)))


def classes_of(prepared: Prepared, rows: Rows, examples: list[Example]) -> np.ndarray:
    """0 template and end, 1 name, 2 value, for every supervised token in the order of rows."""
    classes = []
    for row, (probe, example) in enumerate(zip(forget_probes(prepared), examples, strict=True)):
        name = " ".join(example.answer.split()[:2])
        value, place = span_of(probe), 0
        for token in rows.labels[row][rows.labels[row] != IGNORE]:
            text = prepared.tokenizer.decode([int(token)])
            middle = place + len(text) - len(text.lstrip()) - 1  # answers begin after a space
            place += len(text)
            inside = value[0] <= middle < value[1]
            classes.append(2 if inside else 1 if middle < len(name) else 0)
    return np.array(classes)
