# SPDX-License-Identifier: Apache-2.0
"""The metrics log: append-only, strict JSON, no duplicates after a resume."""

import json
import math

import pytest

from unilogit_jax.errors import CheckpointError
from unilogit_jax.run import MetricsLog


def strict(line):
    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    return json.loads(line, parse_constant=refuse)


def test_each_call_appends_one_flat_line(tmp_path):
    log = MetricsLog(tmp_path / "run" / "metrics.jsonl")
    assert log.write(stage="unlearn", step=1, loss=0.5, tokens=2048) == ()
    assert log.write(stage="unlearn", step=2, loss=0.25, tokens=4096) == ()
    assert [strict(line) for line in log.path.read_text().splitlines()] == [
        {"stage": "unlearn", "step": 1, "loss": 0.5, "tokens": 2048},
        {"stage": "unlearn", "step": 2, "loss": 0.25, "tokens": 4096},
    ]


def test_array_scalars_are_stored_as_numbers(tmp_path):
    jnp = pytest.importorskip("jax.numpy")
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.write(stage="unlearn", step=1, loss=jnp.float32(0.5), nll=jnp.bfloat16(2.0))
    assert log.read(log.path) == [{"stage": "unlearn", "step": 1, "loss": 0.5, "nll": 2.0}]


def test_numbers_that_are_not_finite_become_null_and_are_named(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    odd = log.write(stage="unlearn", step=1, loss=math.nan, ok=1.0, norm=-math.inf)
    assert odd == ("loss", "norm")
    assert strict(log.path.read_text()) == {
        "stage": "unlearn",
        "step": 1,
        "loss": None,
        "ok": 1.0,
        "norm": None,
        "non_finite": "loss=nan norm=-inf",
    }


def test_truncating_drops_only_later_steps_of_that_stage(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    for stage in ("finetune", "unlearn"):
        for step in range(1, 6):
            log.write(stage=stage, step=step, loss=1.0)
    assert log.truncate_after("unlearn", 3) == 2
    rows = log.read(log.path)
    assert [r["step"] for r in rows if r["stage"] == "finetune"] == [1, 2, 3, 4, 5]
    assert [r["step"] for r in rows if r["stage"] == "unlearn"] == [1, 2, 3]


def test_a_line_torn_by_a_crash_is_left_out_and_gone_after_a_resume(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.write(stage="unlearn", step=1, loss=1.0)
    with log.path.open("a") as file:
        file.write('{"stage": "unl')
    assert [r["step"] for r in log.read(log.path)] == [1]
    log.truncate_after("unlearn", 1)
    log.write(stage="unlearn", step=2, loss=1.0)
    assert [strict(line)["step"] for line in log.path.read_text().splitlines()] == [1, 2]


def test_a_damaged_line_in_the_middle_is_named(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"stage": "a", "step": 1}\nnot json\n{"step": 2}\n')
    with pytest.raises(CheckpointError, match="line 2 is damaged"):
        MetricsLog.read(path)


def test_a_log_that_does_not_exist_is_empty(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    assert log.read(log.path) == []
    assert log.truncate_after("unlearn", 0) == 0
