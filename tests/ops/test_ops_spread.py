# SPDX-License-Identifier: Apache-2.0
"""The fused head on eight devices: the numbers of one, and only the collectives that it needs."""

import re
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from unilogit_jax.ops import (
    Divergence,
    HeadSharding,
    Teacher,
    TopK,
    chunked_divergence,
    divergence_loss,
    head_loss,
    label_log_odds,
    top_tokens,
)
from unilogit_jax.types import Head

B, L, D, V, VALID = 8, 16, 32, 64, 60
AXES = ("data", "fsdp", "tensor")
BOTH = ("data", "fsdp")
LAYOUTS = {
    "fsdp": ((1, 8, 1), {"rows": BOTH, "embed": "fsdp"}),
    "tensor": ((1, 1, 8), {"rows": BOTH, "vocab": "tensor"}),
    "fsdp and tensor": ((1, 4, 2), {"rows": BOTH, "vocab": "tensor", "embed": "fsdp"}),
    "all three": ((2, 2, 2), {"rows": BOTH, "vocab": "tensor", "embed": "fsdp"}),
    "width divided, rows not": ((2, 2, 2), {"rows": ("data",), "vocab": "tensor", "embed": "fsdp"}),
    "nothing divided": ((2, 2, 2), {}),
}


def phi(m, aux):
    return aux * jax.nn.softplus(-m), -aux * jax.nn.sigmoid(-m)


@pytest.fixture(scope="module")
def arrays():
    rng = np.random.default_rng(0)
    floats = [rng.normal(size=s).astype(np.float32) for s in ((B, L, D), (V, D), (V,))]
    labels = rng.integers(0, VALID, (B, L)).astype(np.int32)
    weights = ((rng.random((B, L)) > 0.4) * rng.random((B, L))).astype(np.float32)
    return [*floats, labels, weights]


def value_and_grads(entry, sharding):
    def loss(hidden, kernel, bias, labels, weights):
        head = Head(kernel=kernel, bias=bias, softcap=4.0, valid_vocab=VALID)
        if entry == "head_loss":
            return head_loss(hidden, head, labels, weights, phi, aux=weights, sharding=sharding)
        extras = ("hit", "logit_mean", "logprob_moments")
        stats = label_log_odds(hidden, head, labels, weights, sharding=sharding, extras=extras)
        return jnp.sum(weights * phi(stats.log_odds, weights)[0]), stats

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))


def place(arrays, sharding):
    specs = [
        sharding.token_spec,
        sharding.kernel_spec(transposed=False),
        P(sharding.vocab),
        sharding.token_spec,
        sharding.token_spec,
    ]
    return [
        jax.device_put(x, NamedSharding(sharding.mesh, spec))
        for x, spec in zip(arrays, specs, strict=True)
    ]


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("entry", ["head_loss", "label_log_odds"])
def test_eight_devices_give_the_numbers_of_one(arrays, entry, layout, kind):
    sizes, axes = LAYOUTS[layout]
    mesh = jax.make_mesh(sizes, AXES, axis_types=(kind,) * 3)
    sharding = HeadSharding(mesh=mesh, **axes)
    got = value_and_grads(entry, sharding)(*place(arrays, sharding))
    wanted = value_and_grads(entry, None)(*map(jnp.asarray, arrays))
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def divergence_and_grads(entry, sharding):
    """Of a model from a teacher with a head of another layout, or from what is stored of it."""

    def loss(hidden, kernel, bias, labels, weights, ref_hidden, ref_kernel):
        head = Head(kernel=kernel, bias=bias, softcap=4.0, valid_vocab=VALID)
        ref_head = Head(kernel=ref_kernel, layout="dv", valid_vocab=VALID)
        teacher = Teacher(hidden=ref_hidden, head=ref_head)
        if entry == "stored":
            ref = (ref_hidden, ref_head, labels, weights)
            tokens = top_tokens(*ref, k=3, sharding=sharding)
            stats = label_log_odds(*ref, picks=tokens, sharding=sharding)
            teacher = TopK(
                tokens=tokens,
                logprobs=stats.pick_logprobs,
                label_logprob=-jax.nn.softplus(-stats.log_odds),
                tail_logprob=stats.tail_logprob,
            )
        args = (hidden, head, teacher, labels, weights)
        if entry == "js later":
            how = Divergence(direction="js", beta=1.0)
            stats = chunked_divergence(*args, how, sharding=sharding)
            return jnp.sum(weights * stats.values), stats
        return divergence_loss(*args, Divergence(direction="reverse"), sharding=sharding)

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))


@pytest.mark.parametrize(
    ("layout", "kind"),
    [*((layout, AxisType.Auto) for layout in LAYOUTS), ("all three", AxisType.Explicit)],
)
@pytest.mark.parametrize("entry", ["reverse", "js later", "stored"])
def test_divergences_on_eight_devices_give_the_numbers_of_one(arrays, entry, layout, kind):
    rng = np.random.default_rng(1)
    ref = [rng.normal(size=s).astype(np.float32) for s in ((B, L, D // 2), (D // 2, V))]
    sizes, axes = LAYOUTS[layout]
    mesh = jax.make_mesh(sizes, AXES, axis_types=(kind,) * 3)
    sharding = HeadSharding(mesh=mesh, **axes)
    specs = (sharding.token_spec, sharding.kernel_spec(transposed=True))
    placed = [jax.device_put(x, NamedSharding(mesh, s)) for x, s in zip(ref, specs, strict=True)]
    got = divergence_and_grads(entry, sharding)(*place(arrays, sharding), *placed)
    wanted = divergence_and_grads(entry, None)(*map(jnp.asarray, [*arrays, *ref]))
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


COLLECTIVE = re.compile(
    r"= (?P<shape>.*?) (?P<kind>all-gather|all-reduce|reduce-scatter|all-to-all|"
    r"collective-permute)(?:-start)?\("
)


def collectives(text):
    """(kind, elements, inside a loop) of every collective in compiled HLO."""
    heads = [m for m in re.finditer(r"^(?:ENTRY )?%?([\w.-]+) .*\{$", text, re.MULTILINE)]
    ends = [*(m.start() for m in heads), len(text)]
    bodies = dict(
        zip((m.group(1) for m in heads), (text[a:b] for a, b in pairwise(ends)), strict=True)
    )
    looped, todo = set(), re.findall(r"body=%?([\w.-]+)", text)
    while todo:
        name = todo.pop()
        if name in bodies and name not in looped:
            looped.add(name)
            todo += re.findall(r"(?:calls|to_apply|body)=%?([\w.-]+)", bodies[name])
    found = []
    for name, body in bodies.items():
        for match in COLLECTIVE.finditer(body):
            sizes = [
                int(np.prod([int(n) for n in dims.split(",") if n]))
                for dims in re.findall(r"\w+\[([\d,]*)\]", match["shape"])
            ]
            found.append((match["kind"], max(sizes), name in looped))
    return found


def compiled_gradient(loss, mesh, specs, shapes):
    """HLO of the gradients of a loss with respect to its first two arguments."""
    args = [
        jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, spec))
        for (shape, dtype), spec in zip(shapes, specs, strict=True)
    ]
    out = tuple(NamedSharding(mesh, spec) for spec in specs[:2])
    step = jax.jit(jax.grad(loss, argnums=(0, 1)), out_shardings=out)
    return step.lower(*args).compile().as_text()


def test_the_head_moves_its_kernel_once_and_never_logits():
    tokens, width, vocab = 4096, 256, 32000
    mesh = jax.make_mesh((1, 4, 2), AXES, axis_types=(AxisType.Auto,) * 3)
    sharding = HeadSharding(mesh=mesh, rows=BOTH, vocab="tensor", embed="fsdp")

    def loss(hidden, kernel, labels, weights):
        return head_loss(
            hidden, kernel, labels, weights, phi, aux=weights, sharding=sharding, keep=True
        )[0]

    specs = [P(BOTH), P("tensor", "fsdp"), P(BOTH), P(BOTH)]
    floats, ints = jnp.float32, jnp.int32
    shapes = [((tokens, width), floats), ((vocab, width), floats), ((tokens,), ints)]
    text = compiled_gradient(loss, mesh, specs, [*shapes, ((tokens,), floats)])
    found = collectives(text)
    local_tokens, kernel = tokens // 4, vocab // 2 * width
    large = sorted((kind, size) for kind, size, _ in found if size > 10 * tokens)
    assert large == [
        ("all-gather", kernel),
        ("all-reduce", local_tokens * width),
        ("reduce-scatter", kernel // 4),
    ]
    chunk = min(512, local_tokens)
    assert all(size <= 2 * 4 * chunk for _, size, looped in found if looped)
    # Moved per device in float32, against 50.2 MB where full logits are left to the partitioner.
    moved = 4 * (kernel * 3 / 4 + kernel * 3 / 4 / 4 + local_tokens * width) / 1e6
    assert moved <= 0.45 * 50.2


def test_a_divergence_moves_both_kernels_once_and_never_logits():
    tokens, width, vocab = 4096, 256, 32000
    mesh = jax.make_mesh((1, 4, 2), AXES, axis_types=(AxisType.Auto,) * 3)
    sharding = HeadSharding(mesh=mesh, rows=BOTH, vocab="tensor", embed="fsdp")

    def loss(hidden, kernel, ref_hidden, ref_kernel, labels, weights):
        args = (hidden, kernel, Teacher(hidden=ref_hidden, head=ref_kernel), labels, weights)
        undial = Divergence(direction="cross_entropy", beta=10.0)
        return divergence_loss(*args, undial, sharding=sharding)[0]

    specs = [P(BOTH), P("tensor", "fsdp")] * 2 + [P(BOTH)] * 2
    shapes = [((tokens, width), jnp.float32), ((vocab, width), jnp.float32)] * 2
    shapes += [((tokens,), jnp.int32), ((tokens,), jnp.float32)]
    found = collectives(compiled_gradient(loss, mesh, specs, shapes))
    local_tokens, kernel = tokens // 4, vocab // 2 * width
    large = sorted((kind, size) for kind, size, _ in found if size > 10 * tokens)
    assert large == [
        ("all-gather", kernel),
        ("all-gather", kernel),
        ("all-reduce", local_tokens * width),
        ("reduce-scatter", kernel // 4),
    ]
    # Of each token seven numbers from two chips.
    assert all(size <= 2 * 7 * 256 for _, size, looped in found if looped)
