# SPDX-License-Identifier: Apache-2.0
"""The settings of runs as small as they get."""

import pytest

TINY = (
    "model.scratch.width=32",
    "model.scratch.heads=2",
    "model.scratch.layers=1",
    "model.scratch.vocab_size=300",
    "data.max_length=96",
    "finetune.steps=12",
    "finetune.batch_size=16",
    "unlearn.steps=4",
    "unlearn.batch_size=8",
    "unlearn.retain_ratio=1",
    "eval.max_items=6",
    "eval.max_new_tokens=8",
    "eval.batch_size=16",
    "output.checkpoint_every=2",
    "output.log_every=1",
)
"""A model and stages as small as they get; every batch divides over eight devices."""


@pytest.fixture(scope="session")
def overrides() -> tuple[str, ...]:
    """The same as words of a command line."""
    return TINY
