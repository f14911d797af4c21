# SPDX-License-Identifier: Apache-2.0
"""The rows of an experiment: as text from its benchmark, and as tokens."""

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import NamedTuple

import numpy as np

from unilogit_jax.benchmarks import BENCHMARKS
from unilogit_jax.config import Experiment
from unilogit_jax.data import (
    Example,
    Rows,
    Source,
    Task,
    Tokenizer,
    encode_cached,
    read_examples,
    unseen_token,
)
from unilogit_jax.data.requests import with_alternates
from unilogit_jax.run.caches import token_cache


class TaskRows(NamedTuple):
    """The encoded rows of a task."""

    forget: Rows
    retain: Rows | None
    everything: Rows


def read_task(experiment: Experiment) -> Task:
    """The rows to forget and to keep, as text."""
    data = experiment.data
    task = BENCHMARKS[data.benchmark](source_of(experiment))
    if data.alternates is None:
        return task
    given = read_examples(data.alternates)
    return replace(task, forget=with_alternates(task.forget, given, data.alternates))


def source_of(experiment: Experiment) -> Source:
    """What a benchmark is told of the configuration."""
    names = {field.name for field in fields(Source)}
    return Source(**experiment.data.model_dump(include=names))


def encode_rows(experiment: Experiment, task: Task, tokenizer: Tokenizer) -> TaskRows:
    """The rows as tokens."""

    def encode(examples: Sequence[Example], what: str) -> Rows:
        return encode_some(experiment, tokenizer, examples, what, documents=task.documents)

    forget = encode(task.forget, "rows to forget")
    if not task.retain:
        return TaskRows(forget, None, forget)
    retain = encode(task.retain, "rows to keep")
    return TaskRows(forget, retain, forget.joined(retain))


def encode_some(
    experiment: Experiment,
    tokenizer: Tokenizer,
    examples: Sequence[Example],
    what: str,
    *,
    documents: bool = False,
) -> Rows:
    """Examples or documents as tokens, from the cache if they are there."""
    data = experiment.data
    rows = encode_cached(
        tokenizer,
        examples,
        folder=token_cache(),
        template=data.template,
        max_length=data.max_length,
        system=data.system,
        documents=documents,
        what=what,
    )
    # Not in the cache: the mask is no part of what is encoded.
    return replace(rows, unseen=unseen_token(tokenizer, data.pad_mask))


def full_rows(count: int, length: int) -> Rows:
    """Rows of the greatest length, where there is no tokenizer."""
    tokens = np.zeros((count, length), np.int32)
    return Rows(tokens, tokens, np.full(count, length, np.int32))
