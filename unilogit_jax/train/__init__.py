# SPDX-License-Identifier: Apache-2.0
"""State, optimizer, the jitted step, the loop of a stage, and checkpoints."""

from unilogit_jax.train.checkpoint import Checkpoints
from unilogit_jax.train.fingerprint import fingerprint, weights_digest
from unilogit_jax.train.finish import finisher
from unilogit_jax.train.loop import Stage, fit, resume
from unilogit_jax.train.objective import batch_loss, count_sets, weighed
from unilogit_jax.train.optimizer import count_steps, make_optimizer, make_schedule
from unilogit_jax.train.reference import References, log_odds_under, reference_for
from unilogit_jax.train.reference_cache import ReferenceCache
from unilogit_jax.train.rounding import stochastic_round
from unilogit_jax.train.sharpness import gradients_of
from unilogit_jax.train.state import TrainState, init_state
from unilogit_jax.train.step import make_step
from unilogit_jax.train.trainable import EVERYTHING, Trainable, choose_trainable
from unilogit_jax.train.watch import Watch

__all__ = [
    "EVERYTHING",
    "Checkpoints",
    "ReferenceCache",
    "References",
    "Stage",
    "TrainState",
    "Trainable",
    "Watch",
    "batch_loss",
    "choose_trainable",
    "count_sets",
    "count_steps",
    "fingerprint",
    "finisher",
    "fit",
    "gradients_of",
    "init_state",
    "log_odds_under",
    "make_optimizer",
    "make_schedule",
    "make_step",
    "reference_for",
    "resume",
    "stochastic_round",
    "weighed",
    "weights_digest",
]
