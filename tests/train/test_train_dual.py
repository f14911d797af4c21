# SPDX-License-Identifier: Apache-2.0
"""A method's state moves once an update, for any number of microbatches, and is in checkpoints."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from unilogit_jax.methods import Pdu, Rmu
from unilogit_jax.sharding import put_batch
from unilogit_jax.train import make_step

ONE = {"data": 1, "fsdp": 1, "tensor": 1}


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_the_multiplier_moves_once_an_update(rig, parts):
    made = rig(ONE, Pdu(lambda0=10.0, step_size=2.0, eps=1.0))
    state, shardings = made.state()
    step = make_step(
        made.method, made.apply, made.optimizer, made.mesh, shardings=shardings, microbatches=parts
    )
    wanted = 10.0
    for number in range(2):
        state, metrics = step(state, put_batch(made.batches(number), made.mesh))
        assert float(metrics["dual"]) == pytest.approx(wanted, rel=1e-6)
        wanted += 2.0 * (float(metrics["retain_nll"]) - 1.0)
        assert float(state.method_state) == pytest.approx(wanted, rel=1e-6)
    assert wanted > 10.0


@pytest.mark.parametrize("method", [Pdu(lambda0=10.0), Rmu(layer=0)], ids=["pdu", "rmu"])
def test_a_resumed_run_has_the_same_state_bit_for_bit(rig, tmp_path, method):
    made = rig(ONE, method, steps=4)
    whole, _ = made.run(tmp_path / "whole")

    def batch_at(i):
        if i == 3:
            raise KeyboardInterrupt
        return made.batches(i)

    with pytest.raises(KeyboardInterrupt):
        made.run(tmp_path / "cut", replace(made.stage(), batch_at=batch_at))
    resumed, _ = rig(ONE, method, steps=4).run(tmp_path / "cut")
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(resumed), strict=True):
        np.testing.assert_array_equal(a, b)
