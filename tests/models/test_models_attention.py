# SPDX-License-Identifier: Apache-2.0
"""Attention's kernels against float64 NumPy written from the formula, and the refusals."""

import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from unilogit_jax.errors import ConfigError
from unilogit_jax.models import Decoder, DecoderConfig, param_shapes
from unilogit_jax.models.attention import Sight, attention, check_kernel, look
from unilogit_jax.models.splash import splash_attention
from unilogit_jax.sharding import make_mesh

FLOAT32, BFLOAT16 = 1e-5, 2e-2
"""Largest error allowed, as a share of the largest entry expected (of 1, if that is smaller)."""

CASES = {
    "plain": {},
    "one_group": {"kv_heads": 1},
    "no_groups": {"kv_heads": 4, "length": 128},
    "wide_heads": {"head_dim": 128, "segments": True},
    "segments": {"segments": True},
    "window": {"window": 70},
    "window_of_one": {"window": 1, "length": 128},
    "softcap": {"softcap": 3.0, "scale": 0.3},
    "everything": {"segments": True, "window": 37, "softcap": 5.0, "scale": 0.2},
    "odd_length": {"length": 201, "segments": True, "window": 130, "softcap": 5.0},
}


def oracle(q, k, v, cotangent, *, segments, window, scale, softcap):
    """(values, gradients of sum(cotangent * values) by q, k, v), [B, L, heads, head_dim] each."""
    length, groups = q.shape[1], q.shape[2] // k.shape[2]
    k, v = np.repeat(k, groups, axis=2), np.repeat(v, groups, axis=2)
    back = np.arange(length)[:, None] - np.arange(length)[None, :]
    seen = (back >= 0) & (back < (window or length))
    if segments is not None:
        seen = seen & (segments[:, :, None] == segments[:, None, :])[:, None]
    scores = scale * np.einsum("blhd,bshd->bhls", q, k)
    slope = 1.0
    if softcap is not None:
        capped = np.tanh(scores / softcap)
        scores, slope = softcap * capped, 1 - capped**2
    scores = np.where(seen, scores, -np.inf)
    shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
    shares = shares / shares.sum(axis=-1, keepdims=True)
    by_shares = np.einsum("blhd,bshd->bhls", cotangent, v)
    by_scores = shares * (by_shares - (shares * by_shares).sum(axis=-1, keepdims=True))
    by_scores = scale * slope * by_scores
    by_q = np.einsum("bhls,bshd->blhd", by_scores, k)
    by_k = np.einsum("bhls,blhd->bshd", by_scores, q)
    by_v = np.einsum("bhls,blhd->bshd", shares, cotangent)

    def summed(x):
        b, s, heads, width = x.shape
        return x.reshape(b, s, heads // groups, groups, width).sum(axis=3)

    return np.einsum("bhls,bshd->blhd", shares, v), (by_q, summed(by_k), summed(by_v))


def draw(rows=2, length=256, heads=4, kv_heads=2, head_dim=64, segments=False, **settings):
    """(q, k, v, cotangent) in float64, and everything that `oracle` wants to know."""
    rng = np.random.default_rng(7)
    shapes = [(rows, length, n, head_dim) for n in (heads, kv_heads, kv_heads, heads)]
    arrays = [rng.standard_normal(shape) for shape in shapes]
    ids = None
    if segments:
        # Three texts and padding; the last row is padding altogether.
        ends = np.array([length // 5, length // 2, length - length // 7])
        ids = np.tile((np.searchsorted(ends, np.arange(length), side="right") + 1) % 4, (rows, 1))
        ids[-1] = 0
    defaults = {"window": None, "softcap": None, "scale": head_dim**-0.5}
    return arrays, {**defaults, **settings, "segments": ids}


def run_xla(q, k, v, *, segments, window, scale, softcap):
    sight = look(segments, segments, window=window)
    return attention(q, k, v, sight, scale=scale, softcap=softcap, kernel="xla")


def run_splash(q, k, v, *, mesh=None, **settings):
    return splash_attention(q, k, v, mesh=mesh, interpret=True, **settings)


def outcome(run, arrays, settings, dtype="float32", mesh=None):
    """Values and gradients as `oracle` gives them, computed in one compiled function."""
    placed = [jnp.asarray(x, dtype) for x in arrays]
    segments = settings["segments"]
    segments = None if segments is None else jnp.asarray(segments, jnp.int32)
    if mesh is not None:
        whole = NamedSharding(mesh, PartitionSpec())
        placed, segments = jax.device_put((placed, segments), whole)

    @jax.jit
    def both(q, k, v, cotangent, segments):
        out, pull = jax.vjp(lambda *x: run(*x, **(settings | {"segments": segments})), q, k, v)
        return out, pull(cotangent)

    return both(*placed, segments)


def assert_close(actual, expected, tolerance):
    names = ("values", "gradient of q", "gradient of k", "gradient of v")
    pairs = zip((actual[0], *actual[1]), (expected[0], *expected[1]), strict=True)
    for name, (a, e) in zip(names, pairs, strict=True):
        assert a.shape == e.shape
        error = np.abs(np.asarray(a, np.float64) - e).max()
        assert error <= tolerance * max(1.0, np.abs(e).max()), f"{name}: {error}"


def test_gradient_of_the_oracle_equals_its_finite_differences():
    arrays, settings = draw(rows=2, length=6, head_dim=3, segments=True, window=3, softcap=2.0)
    _, gradients = oracle(*arrays, **settings)
    step = 1e-6
    for i, gradient in enumerate(gradients):
        direction = np.random.default_rng(i).standard_normal(gradient.shape)
        sums = []
        for sign in (1, -1):
            moved = [x + sign * step * direction if j == i else x for j, x in enumerate(arrays)]
            sums.append((oracle(*moved, **settings)[0] * arrays[3]).sum())
        slope = (sums[0] - sums[1]) / (2 * step)
        assert slope == pytest.approx((gradient * direction).sum(), rel=1e-7)


@pytest.mark.parametrize("run", [run_xla, run_splash])
@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_equal_float64_numpy(run, case):
    arrays, settings = draw(**CASES[case])
    expected = oracle(*arrays, **settings)
    assert_close(outcome(run, arrays, settings), expected, FLOAT32)


@pytest.mark.parametrize("run", [run_xla, run_splash])
def test_bfloat16_stays_bfloat16_and_near_float64(run):
    arrays, settings = draw(**CASES["everything"])
    arrays = [np.asarray(jnp.asarray(x, jnp.bfloat16), np.float64) for x in arrays]
    actual = outcome(run, arrays, settings, dtype="bfloat16")
    assert actual[0].dtype == jnp.bfloat16
    assert_close(actual, oracle(*arrays, **settings), BFLOAT16)


@pytest.mark.parametrize(
    "sizes",
    [
        {"rows": 4},
        {"rows": 4, "kv_heads": 1},
        {"rows": 3, "heads": 3, "kv_heads": 1},
        {"rows": 2, "heads": 8, "tensor": 4},
    ],
    ids=["even", "one_group_for_two_parts", "nothing_divides", "two_groups_for_four_parts"],
)
def test_eight_devices_give_what_float64_numpy_gives(sizes):
    sizes = dict(sizes)
    tensor = sizes.pop("tensor", 2)
    mesh = make_mesh(data=2, fsdp=-1, tensor=tensor)
    arrays, settings = draw(**sizes, length=128, segments=True, window=50, softcap=5.0)

    def run(q, k, v, **others):
        return run_splash(q, k, v, mesh=mesh, **others)

    actual = outcome(run, arrays, settings, mesh=mesh)
    assert_close(actual, oracle(*arrays, **settings), FLOAT32)


def test_eight_devices_each_hold_their_rows_and_heads():
    mesh = make_mesh(data=2, fsdp=2, tensor=2)
    arrays, settings = draw(rows=4, length=128)
    q, k, v, _ = (jnp.asarray(x, jnp.float32) for x in arrays)
    out = jax.jit(lambda *x: run_splash(*x, mesh=mesh, **settings))(q, k, v)
    assert {shard.data.shape for shard in out.addressable_shards} == {(1, 128, 2, 64)}


def test_auto_is_xla_without_a_tpu():
    arrays, settings = draw(length=128, segments=True)
    q, k, v, _ = (jnp.asarray(x, jnp.float32) for x in arrays)
    segments = jnp.asarray(settings["segments"])
    sight = look(segments, segments)
    np.testing.assert_array_equal(
        attention(q, k, v, sight), attention(q, k, v, sight, kernel="xla")
    )


@pytest.mark.parametrize(
    ("changes", "kernel"),
    [
        ({}, "splash"),
        ({"length": 130}, "splash"),
        ({"length": 127}, "xla"),
        ({"keys": 256}, "xla"),
        ({"platform": "gpu"}, "xla"),
        ({"count": 4}, "xla"),
        ({"dtype": "bfloat16"}, "xla"),
        ({"dtype": "bfloat16", "precision": "default"}, "splash"),
        ({"precision": "tensorfloat32"}, "xla"),
        ({"kernel": "xla"}, "xla"),
        ({"kernel": "splash", "length": 8, "count": 4}, "splash"),
        ({"kernel": "splash", "keys": 256}, "xla"),
    ],
    ids=str,
)
def test_splash_is_taken_where_it_fits(monkeypatch, changes, kernel):
    given = {"platform": "tpu", "count": 1, "length": 128, "kernel": "auto", "dtype": "float32"}
    given |= {"keys": changes.get("length", 128), "precision": "highest"} | changes
    taken = []

    def record(query, *_, **__):
        taken.append("splash")
        return query

    module = sys.modules["unilogit_jax.models.attention"]
    monkeypatch.setattr(module, "splash_attention", record)
    monkeypatch.setattr(jax, "devices", lambda: [SimpleNamespace(platform=given["platform"])])
    monkeypatch.setattr(jax, "device_count", lambda: given["count"])
    query = jnp.zeros((1, given["length"], 2, 8), given["dtype"])
    keys = jnp.zeros((1, given["keys"], 2, 8), given["dtype"])
    with jax.default_matmul_precision(given["precision"]):
        attention(query, keys, keys, Sight(), kernel=given["kernel"])
    assert (taken or ["xla"]) == [kernel]


CPU = SimpleNamespace(platform="cpu")
TPU = SimpleNamespace(platform="tpu")
A100 = SimpleNamespace(platform="gpu", compute_capability="8.0")
H100 = SimpleNamespace(platform="gpu", compute_capability="9.0")
AMD = SimpleNamespace(platform="gpu", compute_capability="gfx90a")
BF16 = {"dtype": jnp.bfloat16, "head_dim": 128, "softcap": None}


@pytest.mark.parametrize(
    ("kernel", "device", "changes", "words"),
    [
        ("splash", CPU, {}, "'splash' runs on TPUs, and this is a cpu"),
        ("splash", H100, {}, "'splash' runs on TPUs, and this is a gpu"),
        ("splash", TPU, {}, "cannot multiply bfloat16 at the present"),
        ("cudnn", CPU, {}, "'cudnn' runs on NVIDIA GPUs, and this is a cpu"),
        ("cudnn", TPU, {}, "'cudnn' runs on NVIDIA GPUs, and this is a tpu"),
        ("cudnn", AMD, {}, "'cudnn' runs on NVIDIA GPUs, and this is a gpu"),
        ("cudnn", H100, {"dtype": jnp.float32}, "computes in bfloat16, not float32"),
        ("cudnn", H100, {"softcap": 50.0}, r"cannot cap scores \(50.0\)"),
        ("cudnn", H100, {"head_dim": 257}, "at most 256 on this GPU, not 257"),
        ("cudnn", H100, {"head_dim": 264}, "at most 256 on this GPU, not 264"),
        ("cudnn", H100, {"head_dim": 84}, "a multiple of 8 .* not 84"),
        ("cudnn", A100, {"head_dim": 256}, "at most 128 on this GPU, not 256"),
    ],
)
def test_a_kernel_that_cannot_work_is_refused(kernel, device, changes, words):
    with pytest.raises(ConfigError, match=words):
        check_kernel(kernel, device, **(BF16 | changes))


@pytest.mark.parametrize(
    ("kernel", "device", "changes"),
    [
        ("cudnn", H100, {"head_dim": 256}),
        ("cudnn", A100, {}),
        ("splash", TPU, {"dtype": jnp.float32, "softcap": 9.0, "head_dim": 80}),
        ("auto", CPU, {"head_dim": 12, "softcap": 9.0}),
    ],
)
def test_a_kernel_that_can_work_is_not_refused(kernel, device, changes):
    check_kernel(kernel, device, **(BF16 | changes))


@pytest.mark.parametrize(
    ("kernel", "dtype", "softcap", "words"),
    [
        ("splash", "float32", None, "runs on TPUs"),
        ("cudnn", "float32", None, "computes in bfloat16"),
        ("cudnn", "bfloat16", 2.0, "cannot cap scores"),
        ("cudnn", "bfloat16", None, "runs on NVIDIA GPUs"),
    ],
)
def test_a_decoder_refuses_its_kernel_before_anything_is_computed(kernel, dtype, softcap, words):
    config = DecoderConfig.scratch(
        vocab_size=16, width=8, heads=2, attention=kernel, dtype=dtype, attention_softcap=softcap
    )
    model, tokens = Decoder(config), jnp.ones((1, 4), jnp.int32)
    # Shapes and weights do not depend on the kernel: a run of another machine can be exported.
    params = param_shapes(model)
    with pytest.raises(ConfigError, match=words):
        jax.eval_shape(lambda params: model.apply({"params": params}, tokens), params)
