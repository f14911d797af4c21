# SPDX-License-Identifier: Apache-2.0
"""Some updates with methods of whole answers move what they are meant to move."""

import numpy as np
import pytest

from unilogit_jax.methods import Dpo, Flat, Idk, IdkAp, JensUn, Needs, SimNpo, Unlearning
from unilogit_jax.sharding import put_batch
from unilogit_jax.train import make_step, reference_for
from unilogit_jax.types import ALTERNATE, FORGET, RETAIN, RETAIN_ALTERNATE

STEPS = 12
ONE = {"data": 1, "fsdp": 1, "tensor": 1}


class Look(Unlearning):
    """Wants the log-odds of all labels."""

    forget_needs = Needs(ref_log_odds=frozenset({FORGET, RETAIN, ALTERNATE, RETAIN_ALTERNATE}))


def logprobs(rig_, params):
    """Set -> mean over answers of log p(answer), of all rows of the rig."""
    rows = {s.which: s.rows for s in rig_.batches.streams} | {FORGET: rig_.forget}
    found, _ = reference_for(Look(), rig_.apply, params, rows, batch_size=16, mesh=rig_.mesh)
    return {
        which: -np.logaddexp(0, -found[which]["ref_log_odds"])[own.labels >= 0].sum() / len(own)
        for which, own in rows.items()
    }


@pytest.fixture
def moved(rig):
    """moved(method) -> set -> by how much the mean log-probability of its answers rose."""

    def call(method):
        made = rig(ONE, method, steps=STEPS, rows=(8, 8))
        before = logprobs(made, made.params)
        step = make_step(method, made.apply, made.optimizer, made.mesh)
        state, _ = made.state()
        for i in range(STEPS):
            state, _ = step(state, put_batch(made.batches(i), made.mesh))
        after = logprobs(made, state.params)
        return {which: after[which] - before[which] for which in before}

    return call


def test_preference_widens_the_gap_between_winner_and_loser(moved):
    rose = moved(Dpo())
    assert rose[ALTERNATE] - rose[FORGET] > 1.0


@pytest.mark.parametrize(
    "method",
    [
        # Its push on a model that knows nothing yet is next to none unless beta is small.
        SimNpo(forget_weight=1.0, beta=0.5, retain_weight=0.0),
        Flat(),
        Flat(divergence="tv"),
    ],
)
def test_forget_answers_fall(moved, method):
    assert moved(method)[FORGET] < -0.5


@pytest.mark.parametrize("method", [Idk(), IdkAp(ap_weight=0.1), JensUn()])
def test_refusals_rise(moved, method):
    assert moved(method)[ALTERNATE] > 0.5


def test_preservation_keeps_retain_answers_above_their_refusals(moved):
    rose = moved(IdkAp(forget_weight=0.0))
    assert rose[RETAIN] - rose[RETAIN_ALTERNATE] > 1.0
