# SPDX-License-Identifier: Apache-2.0
"""A batch whose logits are given: hidden states are logits, the head is the identity.

`loss_and_slopes` is what the trainer computes, down to dL/dz; `numbers` are the same arrays in
float64 NumPy, for oracles written from the formula.
"""

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unilogit_jax import sharding
from unilogit_jax.methods import Unilogit
from unilogit_jax.train import batch_loss, count_sets, weighed
from unilogit_jax.types import (
    ALTERNATE,
    FORGET,
    IGNORE,
    RETAIN,
    RETAIN_ALTERNATE,
    Batch,
    Head,
    ModelOutput,
)

V, LENGTH, ROWS, TOP = 24, 7, 3, 5
SETS = (FORGET, ALTERNATE, RETAIN, RETAIN_ALTERNATE)
OPTIONS = {
    "own": {"tau": "own"},
    "own-forward": {"tau": "own", "direction": "forward"},
    "ngram": {"tau": "ngram"},
    "name-swap": {"tau": "name_swap"},
    "reference": {"tau": "reference", "tau_weights": "x", "direction": "forward"},
    "number": {"tau": 0.2, "direction": "forward"},
    "initial-forward": {"alternatives": "initial", "direction": "forward"},
    "initial-reverse": {"alternatives": "initial"},
    "initial-reverse-full": {"alternatives": "initial", "direction": "reverse_full"},
    "initial-number": {"alternatives": "initial", "tau": 0.1},
    "initial-ngram": {"alternatives": "initial", "tau": "ngram"},
    "initial-own-forward": {"alternatives": "initial", "tau": "own", "direction": "forward"},
    "initial-own-full": {"alternatives": "initial", "tau": "own", "direction": "reverse_full"},
    "select": {"select": True, "tau": 0.01},
    "select-forward": {"select": True, "tau": "own", "direction": "forward"},
    "select-ngram": {"select": True, "tau": "ngram"},
    "select-initial": {
        "select": True,
        "alternatives": "initial",
        "tau": "own",
        "direction": "forward",
    },
    "sequence": {"unit": "sequence"},
}
"""Of Unilogit; `unilogit` makes the method, the same for all its oracles."""


def unilogit(name: str) -> Unilogit:
    """Unilogit with some options and with weights, so that none is left out unnoticed."""
    return Unilogit(**OPTIONS[name], top_k=TOP, forget_weight=0.5, retain_weight=1.5)


@dataclass(frozen=True)
class Made:
    """Logits of model and reference [B, L, V], and the batch they belong to."""

    logits: np.ndarray
    ref_logits: np.ndarray
    batch: Batch

    def taus(self) -> np.ndarray:
        """The given tau of each forget token, in the order of `of`, [n]."""
        batch = self.batch
        on = (np.asarray(batch.sets) == FORGET) & (np.asarray(batch.weights) > 0)
        return 1 / (1 + np.exp(-np.asarray(batch.logit_tau, np.float64)[on]))

    def of(self, which: int) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """For each row of a set: logits, reference's [n, V] and labels [n] of the answer."""
        rows = []
        for b in np.flatnonzero(np.asarray(self.batch.sets)[:, 0] == which):
            on = np.asarray(self.batch.weights)[b] > 0
            rows.append(
                (
                    self.logits[b][on].astype(np.float64),
                    self.ref_logits[b][on].astype(np.float64),
                    np.asarray(self.batch.labels)[b][on],
                )
            )
        return rows


def make(seed: int = 0, *, scale: float = 2.0, sure: float = 0.0, top: int = TOP) -> Made:
    """Three rows of each set; `sure` is added to the labels' logits, `top` tokens are stored."""
    rng = np.random.default_rng(seed)
    count = ROWS * len(SETS)
    logits, ref = (rng.normal(0, scale, (count, LENGTH, V)).astype(np.float32) for _ in range(2))
    labels = rng.integers(0, V, (count, LENGTH)).astype(np.int32)
    lengths = rng.integers(4, LENGTH + 1, count)
    columns = np.arange(LENGTH)[None]
    real = columns < lengths[:, None]
    on = real & (columns >= 1) & (columns < lengths[:, None] - rng.integers(0, 2, (count, 1)))
    for z in (logits, ref):
        np.put_along_axis(
            z, labels[..., None], np.take_along_axis(z, labels[..., None], -1) + sure, -1
        )
    labels = np.where(on, labels, IGNORE)
    tokens, logprobs, tail = stored(ref, labels, top)
    logit_tau = np.random.default_rng(seed + 100).normal(-2, 2, labels.shape)
    partner = {0: 1, 1: 0, 2: 3, 3: 2}
    partners = np.concatenate([np.arange(ROWS) + 1 + ROWS * partner[k] for k in range(4)])
    shape = (count, LENGTH)
    batch = Batch(
        tokens=jnp.zeros(shape, jnp.int32),
        labels=jnp.asarray(labels),
        segments=jnp.asarray(np.where(real, np.arange(1, count + 1)[:, None], 0), jnp.int32),
        positions=jnp.asarray(np.broadcast_to(columns, shape), jnp.int32),
        sets=jnp.asarray(np.where(real, np.repeat(SETS, ROWS)[:, None], 0), jnp.int32),
        weights=jnp.asarray(on, jnp.float32),
        ref_hidden=jnp.asarray(ref),
        ref_log_odds=jnp.asarray(np.where(on, log_odds(ref, labels), 0.0), jnp.float32),
        ref_tokens=jnp.asarray(np.where(on[..., None], tokens, 0), jnp.int32),
        ref_logprobs=jnp.asarray(np.where(on[..., None], logprobs, 0.0), jnp.float32),
        ref_tail=jnp.asarray(np.where(on, tail, 0.0), jnp.float32),
        logit_tau=jnp.asarray(np.where(on, logit_tau, 0.0), jnp.float32),
        partners=jnp.asarray(np.where(real, partners[:, None], 0), jnp.int32),
        num_segments=count + 1,
    )
    return Made(logits, ref, batch)


def log_odds(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Of the labels, float64; anything where there is none."""
    z, y = logits.astype(np.float64), np.clip(labels, 0, None)[..., None]
    label = np.take_along_axis(z, y, -1)[..., 0]
    rest = z.copy()
    np.put_along_axis(rest, y, -np.inf, -1)
    top = rest.max(-1)
    return label - top - np.log(np.exp(rest - top[..., None]).sum(-1))


def stored(
    logits: np.ndarray, labels: np.ndarray, top: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The likeliest tokens but the label, their log-probabilities and that of all others."""
    p, y = softmax(logits.astype(np.float64)), np.clip(labels, 0, None)[..., None]
    rest = p.copy()
    np.put_along_axis(rest, y, -1.0, -1)
    tokens = np.argsort(-rest, -1)[..., :top]
    picked = np.take_along_axis(p, tokens, -1)
    np.put_along_axis(rest, tokens, 0.0, -1)
    np.put_along_axis(rest, y, 0.0, -1)
    tail = rest.sum(-1)
    none = np.finfo(np.float32).min  # where all tokens are stored
    return tokens, np.log(picked), np.log(tail, out=np.full_like(tail, none), where=tail > 0)


def loss_and_slopes(
    method: Any, made: Made, *, state: Any = (), jit: bool = True
) -> tuple[float, np.ndarray, dict[str, float]]:
    """The trainer's loss, dL/dz [B, L, V], and the numbers for the log."""
    run = _compiled(method) if jit else _differentiated(method)
    (value, metrics), slopes = run(jnp.asarray(made.logits), made.batch, state)
    return float(value), np.asarray(slopes), {k: float(x) for k, x in metrics.items()}


@cache
def _compiled(method: Any) -> Any:
    """Kept: all tests of a method share one program."""
    return jax.jit(_differentiated(method))


def _differentiated(method: Any) -> Any:
    mesh = sharding.make_mesh(devices=jax.devices()[:1])
    head = Head(kernel=jnp.eye(V))

    def loss(z: Any, batch: Batch, state: Any) -> Any:
        batch = weighed(method, batch)
        return batch_loss(
            method,
            ModelOutput(hidden=z, head=head),
            batch,
            mesh,
            ref_head=head,
            method_state=state,
            counts=count_sets(batch),
        )

    return jax.value_and_grad(loss, has_aux=True)


def slopes_of(oracle: Any, made: Made, *, step: float = 1e-5, picks: int = 60) -> list[tuple]:
    """(index, finite difference) of a float64 oracle `oracle(made) -> loss` at some logits."""
    rng = np.random.default_rng(9)
    base = made.logits.astype(np.float64)
    on = np.argwhere(np.asarray(made.batch.sets) > 0)
    found = []
    for b, t in on[rng.choice(len(on), min(picks, len(on)), replace=False)]:
        # The label's logit and any other one: the label's slope is the one that loses digits.
        label = int(np.clip(np.asarray(made.batch.labels)[b, t], 0, None))
        for v in {label, int(rng.integers(V))}:
            values = []
            for sign in (1, -1):
                z = base.copy()
                z[b, t, v] += sign * step
                values.append(oracle(replace(made, logits=z)))
            found.append(((b, t, v), (values[0] - values[1]) / (2 * step)))
    return found


def check(method: Any, made: Made, oracle: Any, *, state: Any = ()) -> None:
    """Value and gradient of a method against a float64 oracle of the whole loss."""
    value, slopes, metrics = loss_and_slopes(method, made, state=state)
    wanted = oracle(made)
    assert abs(value - wanted) <= 1e-5 * abs(wanted) + 1e-6, (value, wanted)
    assert abs(metrics["loss"] - wanted) <= 1e-5 * abs(wanted) + 1e-6
    found = slopes_of(oracle, made)
    size = max(abs(slope) for _, slope in found)
    for index, slope in found:
        assert abs(slopes[index] - slope) <= 2e-5 * size + 1e-7, (index, slopes[index], slope)


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def logprobs(z: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """log p of the labels of one answer, [n]."""
    return np.log(softmax(z))[np.arange(len(labels)), labels]


def retain_nll(made: Made) -> float:
    """The retain term of most methods: mean over tokens."""
    return -np.concatenate([logprobs(z, y) for z, _, y in made.of(RETAIN)]).mean()
