# SPDX-License-Identifier: Apache-2.0
"""State, optimizer, the jitted step, the loop of a stage, and checkpoints."""

from unilogit_jax.train.checkpoint import Checkpoints, fingerprint
from unilogit_jax.train.loop import Stage, fit, resume
from unilogit_jax.train.objective import batch_loss, token_stats
from unilogit_jax.train.optimizer import count_steps, make_optimizer, make_schedule
from unilogit_jax.train.reference import reference_for
from unilogit_jax.train.state import TrainState, init_state
from unilogit_jax.train.step import make_step
from unilogit_jax.train.watch import Watch

__all__ = [
    "Checkpoints",
    "Stage",
    "TrainState",
    "Watch",
    "batch_loss",
    "count_steps",
    "fingerprint",
    "fit",
    "init_state",
    "make_optimizer",
    "make_schedule",
    "make_step",
    "reference_for",
    "resume",
    "token_stats",
]
