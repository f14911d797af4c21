# SPDX-License-Identifier: Apache-2.0
"""The step: the right gradient, the same on one and eight devices, bit for bit on one mesh."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from step_gradients import gradients, worst

from unilogit_jax.methods import Undial, Unilogit
from unilogit_jax.sharding import put_batch
from unilogit_jax.train import batch_loss, make_optimizer, make_step
from unilogit_jax.types import FORGET, RETAIN

ONE = {"data": 1, "fsdp": 1, "tensor": 1}
EIGHT = {"data": 1, "fsdp": 4, "tensor": 2}


def dense_loss(rig_, params, batch):
    """Unilogit and the retain term from full logits, written from the definitions."""
    logits = rig_.apply(params, batch).logits()
    v = logits.shape[-1]
    logp = jax.nn.log_softmax(logits)
    onehot = jax.nn.one_hot(batch.labels, v, dtype=bool)
    alternatives = jax.nn.logsumexp(jnp.where(onehot, -jnp.inf, logits), axis=-1, keepdims=True)
    target = jnp.where(onehot, alternatives - np.log(v - 1), logits)
    kl = jnp.sum(jnp.exp(logp) * (logp - jax.nn.log_softmax(target)), axis=-1)
    nll = -jnp.sum(jnp.where(onehot, logp, 0), axis=-1)
    forget = (batch.labels >= 0) & (batch.sets == FORGET)
    retain = (batch.labels >= 0) & (batch.sets == RETAIN)
    return jnp.sum(kl * forget) / forget.sum() + 2.0 * jnp.sum(nll * retain) / retain.sum()


def test_the_step_descends_the_gradient_of_the_paper_s_loss(rig):
    one = rig(ONE)
    batch = put_batch(one.batches(0), one.mesh)
    wanted, grads = jax.jit(jax.value_and_grad(partial(dense_loss, one)))(one.params, batch)
    numbers, got = gradients(one)
    assert numbers["loss"] == pytest.approx(float(wanted), rel=1e-5)
    assert worst(jax.tree.map(np.asarray, grads), got) <= 1e-5


def dense_undial(rig_, retain_weight, params, batch):
    """UnDIAL and the retain term from full logits of model and teacher, from the definitions."""
    logits = rig_.apply(params, batch).logits()
    teacher = rig_.ref_head.logits(batch.ref_hidden)
    logp = jax.nn.log_softmax(logits)
    onehot = jax.nn.one_hot(batch.labels, logits.shape[-1])
    lowered = jax.nn.softmax(teacher - 3.0 * onehot)
    cross, nll = (-jnp.sum(t * logp, axis=-1) for t in (lowered, onehot))
    forget = (batch.labels >= 0) & (batch.sets == FORGET)
    retain = (batch.labels >= 0) & (batch.sets == RETAIN)
    means = [jnp.sum(nll * on) / on.sum() for on in (forget, retain)]
    return jnp.sum(cross * forget) / forget.sum() + retain_weight * means[1], means


@pytest.mark.parametrize("retain_weight", [0.0, 2.0])
def test_undial_descends_the_gradient_of_its_definition(rig, retain_weight):
    one = rig(ONE, Undial(beta=3.0, retain_weight=retain_weight))
    batch = put_batch(one.batches(0), one.mesh)
    dense = partial(dense_undial, one, retain_weight)
    (wanted, means), grads = jax.jit(jax.value_and_grad(dense, has_aux=True))(one.params, batch)
    state, _ = one.state()

    @jax.jit
    def ours(params):
        # Not through an update: this gradient is too small to be the difference of weights.
        def loss(params):
            output = one.apply(params, batch)
            return batch_loss(one.method, output, batch, one.mesh, ref_head=state.ref_head)

        return jax.value_and_grad(loss, has_aux=True)(params)

    (value, numbers), got = ours(one.params)
    assert float(value) == pytest.approx(float(wanted), rel=1e-5)
    assert float(numbers["loss"]) == pytest.approx(float(wanted), rel=1e-5)
    for name, mean in zip(("forget_nll", "retain_nll"), means, strict=True):
        assert float(numbers[name]) == pytest.approx(float(mean), rel=1e-5)
    assert worst(*(jax.tree.map(np.asarray, x) for x in (grads, got))) <= 1e-5


def test_a_batch_that_cannot_be_cut_evenly_is_refused(rig):
    with pytest.raises(ValueError, match="24 rows cannot be cut into 5 equal microbatches"):
        gradients(rig(ONE), microbatches=5)


def test_an_update_that_is_not_finite_changes_nothing_but_its_count(rig):
    one = rig(ONE)
    state, _ = one.state()
    step = make_step(one.method, one.apply, one.optimizer, one.mesh)
    batch = put_batch(one.batches(0), one.mesh)
    broken = replace(batch, weights=batch.weights * jnp.inf)
    before = jax.tree.map(np.asarray, (state.params, state.opt_state))
    for count in (1, 2):
        state, metrics = step(state, broken)
        assert int(state.step) == int(state.skipped) == int(state.skipped_in_a_row) == count
        assert float(metrics["skipped"]) == count
    after = jax.tree.map(np.asarray, (state.params, state.opt_state))
    for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        np.testing.assert_array_equal(a, b)
    state, _ = step(state, batch)
    assert int(state.skipped) == 2 and int(state.skipped_in_a_row) == 0
    changed = jax.tree.map(lambda a, b: np.any(a != np.asarray(b)), before[0], state.params)
    assert all(jax.tree.leaves(changed))


def test_one_and_eight_devices_log_the_same_run_to_a_millionth(rig, tmp_path):
    def losses(sizes, name):
        _, lines = rig(sizes, steps=3).run(tmp_path / name)
        return [line["loss"] for line in lines]

    assert losses(EIGHT, "eight") == pytest.approx(losses(ONE, "one"), rel=1e-6)


@pytest.mark.parametrize("sizes", [ONE, EIGHT], ids=["one", "eight"])
def test_a_run_repeats_bit_for_bit_on_one_mesh(rig, tmp_path, sizes):
    first, first_lines = rig(sizes).run(tmp_path / "a")
    again, again_lines = rig(sizes).run(tmp_path / "b")
    assert first_lines == again_lines
    for a, b in zip(jax.tree.leaves(first.params), jax.tree.leaves(again.params), strict=True):
        assert np.array_equal(a, b)


def test_the_step_consumes_its_state_and_leaves_the_start_alone(rig):
    one = rig(ONE)
    state, shardings = one.state()
    step = make_step(one.method, one.apply, one.optimizer, one.mesh, shardings=shardings)
    step(state, put_batch(one.batches(0), one.mesh))
    assert all(x.is_deleted() for x in jax.tree.leaves(state.params))
    assert not any(x.is_deleted() for x in jax.tree.leaves(one.params))


def test_weights_and_optimizer_state_are_divided_over_the_mesh(rig):
    eight = rig(EIGHT)
    state, _ = eight.state()
    adam = next(
        s
        for s in jax.tree.leaves(state.opt_state, is_leaf=lambda s: hasattr(s, "mu"))
        if hasattr(s, "mu")
    )
    for tree in (state.params, adam.mu, adam.nu):
        kernel = tree["layers"]["attn"]["q_proj"]["kernel"]
        assert kernel.addressable_shards[0].data.size == kernel.size // 8


def test_the_teacher_s_head_is_divided_over_the_mesh_too(rig):
    eight = rig(EIGHT, Undial())
    state, shardings = eight.state()
    kernel = state.ref_head.kernel
    assert kernel.addressable_shards[0].data.size == kernel.size // 8
    assert shardings.ref_head.kernel == kernel.sharding


def test_a_method_without_what_it_needs_is_refused(rig):
    one = rig(ONE, Undial())
    one.ref_head = None
    state, shardings = one.state()
    step = make_step(one.method, one.apply, one.optimizer, one.mesh, shardings=shardings)
    with pytest.raises(ValueError, match="hidden states"):
        step(state, put_batch(one.batches(0), one.mesh))


def test_norms_are_not_decayed_and_kernels_are():
    params = {"a": {"kernel": jnp.ones((2, 2))}, "norm": {"scale": jnp.ones(2)}}
    optimizer = make_optimizer(10, learning_rate=0.1, warmup=0.0, weight_decay=0.5, clip=None)
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = optimizer.update(zeros, optimizer.init(params), params)
    assert np.allclose(updates["a"]["kernel"], -0.1 * 0.5) and (updates["norm"]["scale"] == 0).all()


def test_a_set_without_weight_keeps_its_place_in_the_log(rig):
    weighed, _ = gradients(rig(ONE, Unilogit()))
    alone, _ = gradients(rig(ONE, Unilogit(retain_weight=0.0)))
    assert alone["retain_nll"] == pytest.approx(weighed["retain_nll"], rel=1e-6)
    assert alone["loss"] == pytest.approx(weighed["forget_loss"], rel=1e-6)
