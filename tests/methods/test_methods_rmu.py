# SPDX-License-Identifier: Apache-2.0
"""RMU against its formula, in NumPy and in torch; its direction, its reductions, its layer."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from methods_rig import LENGTH, V, check, loss_and_slopes, make

from unilogit_jax.methods import Rmu
from unilogit_jax.types import FORGET, RETAIN

METHOD = Rmu(layer=1, c=4.0, retain_weight=0.7, forget_weight=1.5)


def direction(method=METHOD, seed=0):
    return method.start(jax.random.key(seed), width=V)


def per_answer(made, which, target):
    return [((h - target(ref)) ** 2).mean(-1) for h, ref, _ in made.of(which)]


def oracle(method, *, average=lambda answers: np.concatenate(answers).mean()):
    u = np.asarray(direction(method), np.float64)

    def steered(ref):
        size = np.linalg.norm(ref, axis=-1, keepdims=True) if method.adaptive else 1.0
        return method.c * size * u

    def loss(made):
        forget = average(per_answer(made, FORGET, steered))
        held = average(per_answer(made, RETAIN, lambda ref: ref))
        return method.forget_weight * forget + method.retain_weight * held

    return loss


def of_all_pairs(answers):
    """Sums of all answers over lengths of all answers."""
    sums, lengths = [x.sum() for x in answers], [len(x) for x in answers]
    return np.mean([[s / n for n in lengths] for s in sums])


@pytest.mark.parametrize("adaptive", [False, True])
def test_value_and_gradient_are_those_of_the_formula(adaptive):
    method = replace(METHOD, adaptive=adaptive)
    check(method, make(), oracle(method), state=direction())


def test_compat_divides_all_sums_by_all_lengths():
    method = replace(METHOD, compat="open_unlearning")
    check(method, make(), oracle(method, average=of_all_pairs), state=direction())
    made = make()
    assert oracle(method, average=of_all_pairs)(made) != pytest.approx(oracle(METHOD)(made), 1e-3)


def test_value_and_gradient_are_those_of_torch():
    torch = pytest.importorskip("torch")
    made = make()
    h, ref = torch.tensor(made.logits, requires_grad=True), torch.tensor(made.ref_logits)
    u, sets = torch.tensor(np.asarray(direction())), torch.tensor(np.asarray(made.batch.sets))
    on = torch.tensor(np.asarray(made.batch.weights)) > 0
    mse = torch.nn.functional.mse_loss
    forget, retain = on & (sets == FORGET), on & (sets == RETAIN)
    loss = 1.5 * mse(h[forget], (4.0 * u).expand_as(h[forget])) + 0.7 * mse(h[retain], ref[retain])
    loss.backward()
    value, slopes, _ = loss_and_slopes(METHOD, made, state=direction())
    assert value == pytest.approx(loss.item(), rel=1e-5)
    np.testing.assert_allclose(slopes, h.grad.numpy(), atol=1e-5 * float(h.grad.abs().max()))


def test_the_direction_is_positive_of_length_one_and_the_seeds_own():
    u = np.asarray(direction())
    assert np.linalg.norm(u) == pytest.approx(1.0) and (u >= 0).all()
    np.testing.assert_array_equal(u, direction())
    assert np.abs(u - direction(seed=1)).max() > 0.01


def test_nothing_but_supervised_tokens_counts():
    made = make()
    off = np.asarray(made.batch.weights) == 0
    spoilt = np.where(off[..., None], np.float32(np.nan), made.logits)
    for method in (METHOD, replace(METHOD, adaptive=True, compat="open_unlearning")):
        value, slopes, numbers = loss_and_slopes(
            method, replace(made, logits=spoilt), state=direction()
        )
        wanted, _, _ = loss_and_slopes(method, made, state=direction())
        assert value == wanted and (slopes[off] == 0).all() and np.isfinite(slopes).all()
        assert np.isfinite(list(numbers.values())).all()


def test_without_any_row_there_is_no_loss():
    made = make()
    blank = jnp.zeros((len(made.logits), LENGTH))
    batch = replace(made.batch, weights=blank, sets=blank.astype(jnp.int32))
    for compat in ("none", "open_unlearning"):
        method = replace(METHOD, compat=compat)
        value, slopes, _ = loss_and_slopes(method, replace(made, batch=batch), state=direction())
        assert value == 0.0 and (slopes == 0).all()


def test_the_log_has_the_length_to_compare_c_with():
    made = make()
    _, _, numbers = loss_and_slopes(METHOD, made, state=direction())
    lengths = np.concatenate([np.linalg.norm(h, axis=-1) for h, _, _ in made.of(FORGET)])
    assert numbers["forget_norm"] == pytest.approx(lengths.mean(), rel=1e-5)
