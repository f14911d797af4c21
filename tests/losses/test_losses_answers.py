# SPDX-License-Identifier: Apache-2.0
"""Losses of whole answers and JensUn: values and slopes in float64, from lost to memorised."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unilogit_jax.losses import (
    answer_preservation,
    dpo,
    flat_forget,
    flat_template,
    jensun,
    jensun_from_log_odds,
    label_probability,
    simnpo,
)

pytestmark = pytest.mark.usefixtures("strict_dtypes")
M = np.array([-30.0, -12.0, -3.0, -0.5, 0.0, 0.7, 4.0, 9.0, 17.0, 40.0])


def slopes(f, x):
    return np.asarray(jax.grad(lambda x: jnp.sum(f(x)))(jnp.asarray(x, jnp.float32)))


def test_jensun_is_exact_from_lost_to_memorised_tokens():
    # Extended precision: at m = 40 the value is a difference of numbers 1e17 times larger.
    m = M.astype(np.longdouble)
    p, q = 1 / (1 + np.exp(-m)), 1 / (1 + np.exp(m))
    kl_one_hot = -np.log1p(-q / 2)
    with np.errstate(divide="ignore"):
        kl_p = -p * np.log1p(np.exp(-m)) - p * np.log1p(-q / 2) + q * np.log(np.longdouble(2))
    value = (kl_one_hot + kl_p) / 2
    slope = p * q * (-np.log1p(np.exp(-m)) - np.log1p(p)) / 2
    ours = jensun_from_log_odds(jnp.asarray(M, jnp.float32))
    np.testing.assert_allclose(ours, value.astype(np.float64), rtol=2e-6)
    found = slopes(jensun_from_log_odds, M)
    np.testing.assert_allclose(found, slope.astype(np.float64), rtol=2e-6)
    step = 1e-3
    numeric = np.diff([jensun_of(x) for x in (0.7 - step, 0.7 + step)])[0] / (2 * step)
    assert found[5] == pytest.approx(numeric, rel=1e-5)


def jensun_of(m):
    """From the definition, with the rest of the vocabulary as one token."""
    p, target = np.array([1 / (1 + np.exp(-m)), 1 / (1 + np.exp(m))]), np.array([1.0, 0.0])
    middle = (p + target) / 2
    kl = np.sum(p * np.log(p / middle)), np.log(1 / middle[0])
    return sum(kl) / 2


def test_jensun_of_logits_leaves_out_what_does_not_count_and_infinite_logits_are_no_nan():
    z = jnp.asarray([[0.0, -np.inf, -np.inf], [1.0, 2.0, 3.0], [0.0, -np.inf, 0.0]], jnp.float32)
    labels = jnp.asarray([0, -100, 1])
    assert np.allclose(jensun(z, labels), [0.0, 0.0, np.log(2)], atol=1e-6)
    for m in (np.inf, -np.inf):
        assert slopes(jensun_from_log_odds, [m]) == 0


def test_a_probability_keeps_the_digits_of_its_slope():
    wanted = np.exp(-np.abs(M)) / (1 + np.exp(-np.abs(M))) ** 2
    np.testing.assert_allclose(slopes(label_probability, M), wanted, rtol=2e-6)


@pytest.mark.parametrize("divergence", ["kl", "tv"])
def test_flat_is_the_formula(divergence):
    p = np.linspace(0, 1, 5)
    wanted = {"kl": (-p, np.exp(p - 1)), "tv": (-np.tanh(p) / 2, np.tanh(p) / 2)}[divergence]
    for f, value in zip((flat_template, flat_forget), wanted, strict=True):
        np.testing.assert_allclose(f(jnp.asarray(p, jnp.float32), divergence=divergence), value)


def test_simnpo_fades_as_the_answer_is_forgotten_and_its_margin_moves_the_middle():
    lengths = jnp.full(4, 2.0)
    nll = np.array([0.0, 1.5, 5.0, 20.0])

    def loss(logprobs):
        return simnpo(logprobs, lengths, beta=2.0, delta=1.5)

    found = slopes(loss, -2 * nll)
    np.testing.assert_allclose(found, (2 / 2) / (1 + np.exp(2 * (nll - 1.5))), rtol=1e-5)
    assert found[1] == 0.5


def test_without_tokens_simnpo_is_finite():
    assert np.isfinite(simnpo(jnp.zeros(1), jnp.zeros(1))).all()


def test_preferences_of_one_answer_over_another():
    gap = np.array([-200.0, -3.0, 0.0, 4.0, 300.0])
    x, zero = jnp.asarray(gap, jnp.float32), jnp.zeros(5)
    wanted = np.logaddexp(0, -0.2 * gap)
    np.testing.assert_allclose(dpo(x, zero, beta=0.2), wanted, rtol=1e-5)
    np.testing.assert_allclose(dpo(zero, x, beta=0.2), np.logaddexp(0, 0.2 * gap), rtol=1e-5)
    both = dpo(x, zero, beta=0.2, compat="open_unlearning")
    np.testing.assert_allclose(both, 10 * wanted, rtol=1e-5)
    np.testing.assert_allclose(answer_preservation(x, zero, beta=0.2), 5 * wanted, rtol=1e-5)


@pytest.mark.parametrize("loss", [dpo, answer_preservation, simnpo])
def test_a_beta_that_is_not_positive_is_refused(loss):
    for beta in (0.0, -1.0):
        with pytest.raises(ValueError, match="beta > 0"):
            loss(jnp.zeros(1), jnp.zeros(1), beta=beta)


@pytest.mark.parametrize(
    ("loss", "options"),
    [
        (flat_template, {"divergence": "js"}),
        (flat_forget, {"divergence": "js"}),
        (dpo, {"compat": "open-unlearning"}),
    ],
)
def test_a_mistyped_option_is_refused_and_not_taken_for_another(loss, options):
    ((name, word),) = options.items()
    values = [jnp.zeros(1)] * (2 if loss is dpo else 1)
    # Unwrapped: the run-time type check of the tests would refuse it first.
    with pytest.raises(ValueError, match=f"{name}='{word}' is unknown; use one of"):
        inspect.unwrap(loss)(*values, **options)
