# SPDX-License-Identifier: Apache-2.0
"""Adapters: what they change, what they cost, where they live, and that merging is applying."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.extend.core import subjaxprs
from jax.sharding import PartitionSpec as P

from unilogit_jax import models
from unilogit_jax.errors import ConfigError
from unilogit_jax.models.lora import Lora, lora_apply_fn, merge_lora, scaled
from unilogit_jax.sharding import make_mesh, put_batch, replicated
from unilogit_jax.types import Batch

TOLERANCE = 1e-5
LORA = Lora(rank=3, alpha=7.0, targets=("*",))
KINDS = {
    "llama": {},
    "biases, layer norm, plain mlp": {
        "norm": "layer",
        "gated": False,
        "qkv_bias": True,
        "out_bias": True,
        "mlp_bias": True,
        "kv_heads": 4,
        "block": "parallel",
    },
    "sandwich, local layers": {
        "block": "sandwich",
        "norm": "rms_late",
        "qk_norm": "head",
        "layers": 3,
        "local_layers": (True, False, True),
        "window": 3,
        "attention_softcap": 2.0,
    },
}


@pytest.fixture(scope="module")
def batch():
    """Two rows, one of them of two texts."""
    rng = np.random.default_rng(5)
    segments = np.array([[1] * 10, [2] * 4 + [3] * 6])
    positions = np.array([[*range(10)], [*range(4), *range(6)]])
    tokens = rng.integers(0, 64, (2, 10))
    return Batch(
        tokens=jnp.asarray(tokens),
        labels=jnp.asarray(rng.integers(0, 64, (2, 10))),
        segments=jnp.asarray(segments),
        positions=jnp.asarray(positions),
        sets=jnp.ones((2, 10), jnp.int32),
        weights=jnp.ones((2, 10)),
    )


def filled(lora, model, seed=7):
    """Adapters whose b is not 0, drawn in NumPy."""
    rng = np.random.default_rng(seed)
    draw = lambda leaf: jnp.asarray(0.1 * rng.standard_normal(leaf.shape), leaf.dtype)  # noqa: E731
    return jax.tree.map(draw, lora.shapes(model))


def loss_fn(model, lora):
    """(adapters, batch, params) -> mean negative log-likelihood, logits."""
    apply = lora_apply_fn(model, lora)

    def loss(adapters, batch, params):
        logits = apply(adapters, batch, params).logits()
        logprobs = jax.nn.log_softmax(logits)
        return -jnp.take_along_axis(logprobs, batch.labels[..., None], axis=-1).mean(), logits

    return loss


def base_logits(model, params, batch):
    return np.asarray(jax.jit(models.apply_fn(model))(params, batch).logits())


@pytest.mark.parametrize("kind", KINDS)
def test_fresh_adapters_change_no_bit_and_merged_ones_act_as_applied_ones(make_tiny, batch, kind):
    model, params = make_tiny(**KINDS[kind])
    fresh, adapters = LORA.init(model, jax.random.key(0)), filled(LORA, model)
    apply = lora_apply_fn(model, LORA)
    # Operation by operation: compiled programs that differ may round differently.
    with jax.disable_jit():
        with_fresh = apply(fresh, batch, params).logits()
        without = models.apply_fn(model)(params, batch).logits()
    np.testing.assert_array_equal(with_fresh, without)

    applied = np.asarray(jax.jit(apply)(adapters, batch, params).logits())
    merged = base_logits(model, merge_lora(params, adapters, LORA), batch)
    assert np.abs(applied - without).max() > 0.1
    assert np.abs(applied - merged).max() <= TOLERANCE


def test_a_merged_kernel_is_the_sum_in_float64_and_keeps_its_type(tiny):
    model, params = tiny
    params = jax.tree.map(lambda x: x, params)
    down = params["layers"]["mlp"]["down_proj"]
    down["kernel"] = down["kernel"].astype(jnp.bfloat16)
    adapters = filled(LORA, model)
    merged = merge_lora(params, adapters, LORA)
    specs = {"q_proj": "lir,lrhd->lihd", "o_proj": "lhdr,lro->lhdo"}
    for name, spec in specs.items():
        pair = (np.float64(adapters["layers"]["attn"][name][x]) for x in "ab")
        expected = np.float64(params["layers"]["attn"][name]["kernel"])
        expected = expected + 7 / 3 * np.einsum(spec, *pair)
        np.testing.assert_allclose(
            merged["layers"]["attn"][name]["kernel"], expected, atol=1e-6, rtol=0
        )
    assert merged["layers"]["mlp"]["down_proj"]["kernel"].dtype == jnp.bfloat16
    assert merged["embed"]["kernel"] is params["embed"]["kernel"]


def test_a_is_uniform_within_one_over_the_root_of_its_inputs_and_b_is_zero(make_tiny):
    model, _ = make_tiny(width=64)
    lora = Lora(rank=16, targets=("o_proj", "down_proj"))
    adapters = lora.init(model, jax.random.key(0))["layers"]
    assert jax.tree.map(jnp.shape, adapters) == {
        "attn": {"o_proj": {"a": (2, 4, 16, 16), "b": (2, 16, 64)}},
        "mlp": {"down_proj": {"a": (2, 160, 16), "b": (2, 16, 64)}},
    }
    for pair, inputs in ((adapters["attn"]["o_proj"], 64), (adapters["mlp"]["down_proj"], 160)):
        values = np.asarray(pair["a"]) * np.sqrt(inputs)
        assert 0.99 < np.abs(values).max() <= 1.0
        # Standard errors of mean and variance of 2048 draws: 0.013 and 0.0066.
        assert abs(values.mean()) < 0.05 and abs(values.var() - 1 / 3) < 0.03
        assert not np.any(pair["b"])
    layers = np.asarray(adapters["attn"]["o_proj"]["a"]).reshape(2, -1)
    assert abs(np.corrcoef(layers)[0, 1]) < 0.2


def test_a_layers_values_do_not_depend_on_the_other_targets(tiny):
    model, _ = tiny
    one = Lora(targets=("v_proj",)).init(model, jax.random.key(2))
    all_ = Lora(targets=("*",)).init(model, jax.random.key(2))
    pick = lambda tree: np.asarray(tree["layers"]["attn"]["v_proj"]["a"])  # noqa: E731
    np.testing.assert_array_equal(pick(one), pick(all_))
    assert not np.array_equal(pick(all_), np.asarray(all_["layers"]["attn"]["k_proj"]["a"]))


def test_shapes_and_axes_are_known_without_an_allocation(tiny):
    model, _ = tiny
    lora = Lora(rank=5, targets=("attn.[qo]_proj", "gate_proj"))
    adapters = lora.init(model, jax.random.key(0))
    facts = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), adapters)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), lora.shapes(model)) == facts
    assert lora.logical_axes(model)["layers"] == {
        "attn": {
            "q_proj": {
                "a": ("layers", "embed", None),
                "b": ("layers", None, "heads", "head_dim"),
            },
            "o_proj": {
                "a": ("layers", "heads", "head_dim", None),
                "b": ("layers", None, "embed"),
            },
        },
        "mlp": {"gate_proj": {"a": ("layers", "embed", None), "b": ("layers", None, "mlp")}},
    }


@pytest.mark.parametrize(
    "targets, expected",
    [
        (("q_proj", "v_proj"), "attn.q_proj attn.v_proj"),
        (("layers.attn.q_proj",), "attn.q_proj"),
        (("layers.mlp.*",), "mlp.down_proj mlp.gate_proj mlp.up_proj"),
        (("mlp.*", "o_proj"), "attn.o_proj mlp.down_proj mlp.gate_proj mlp.up_proj"),
        (("[kv]_proj",), "attn.k_proj attn.v_proj"),
    ],
)
def test_targets_are_patterns_over_paths_or_their_ends(tiny, targets, expected):
    tree = Lora(targets=targets).logical_axes(tiny[0])["layers"]
    found = sorted(f"{room}.{name}" for room, names in tree.items() for name in names)
    assert " ".join(found) == expected


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"targets": ("q_porj",)}, r"'q_porj' is no linear layer .* Did you mean 'q_proj'\?$"),
        ({"targets": ("q_proj", "layers.mpl.*")}, r"'layers.mpl.\*' .* Did you mean 'layers.mlp"),
        ({"targets": ("attn_norm",)}, "'attn_norm' is no linear layer of this model"),
        ({"targets": ("embed",)}, "'embed' is no linear layer of this model"),
        ({"targets": ()}, "^lora.targets is empty: name linear layers"),
        ({"rank": 0}, r"^lora.rank must be larger than 0, got 0\.$"),
        ({"alpha": -1.0}, r"^lora.alpha must be larger than 0, got -1\.0\.$"),
    ],
)
def test_bad_values_end_in_one_sentence(tiny, fields, message):
    with pytest.raises(ConfigError, match=message):
        Lora(**fields).init(tiny[0], jax.random.key(0))


def test_adapters_of_another_rank_or_model_are_refused(tiny):
    model, params = tiny
    adapters = Lora(rank=4).init(model, jax.random.key(0))
    with pytest.raises(ConfigError, match=r"^lora.rank is 8, but the adapters are of rank 4\.$"):
        scaled(adapters, Lora(rank=8))
    narrow = jax.tree.map(lambda x: x, params)
    narrow["layers"]["attn"]["q_proj"] = {"kernel": jnp.ones((2, 16, 4, 8))}
    with pytest.raises(ConfigError, match=r"^layers.attn.q_proj.kernel has shape \[2, 16, 4, 8\]"):
        merge_lora(narrow, adapters, Lora(rank=4))
    del narrow["layers"]["attn"]["q_proj"]
    with pytest.raises(ConfigError, match=r"^the parameters have no layers.attn.q_proj.kernel"):
        merge_lora(narrow, adapters, Lora(rank=4))


def products(jaxpr):
    """Sizes of all matrix products, those of inner functions and loops included."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            yield equation.outvars[0].aval.size
    for inner in subjaxprs(jaxpr):
        yield from products(inner)


@pytest.mark.parametrize("remat", ["none", "full"])
def test_training_adapters_computes_no_gradient_of_a_weight(tiny, batch, remat):
    model, params = tiny
    model = model.clone(remat=remat)
    adapters, loss = filled(LORA, model), loss_fn(model, LORA)
    kernels = {leaf[0].size for leaf in jax.tree.leaves(params["layers"]) if leaf.ndim > 2}
    kernels.add(params["embed"]["kernel"].size)

    def gradient(of):
        made = jax.make_jaxpr(jax.grad(loss, of, has_aux=True))(adapters, batch, params)
        return set(products(made.jaxpr)), [value.shape for value in made.out_avals[:-1]]

    sizes, _ = gradient((0, 2))
    assert kernels <= sizes
    sizes, outputs = gradient(0)
    assert not kernels & sizes
    assert outputs == [leaf.shape for leaf in jax.tree.leaves(adapters)]


def test_remat_on_eight_devices_gives_the_logits_and_gradients_of_one(tiny, batch):
    model, params = tiny
    mesh = make_mesh(fsdp=4, tensor=2)
    sharded = models.Decoder(model.config, mesh=mesh, remat="full")
    adapters, shardings = filled(LORA, model), LORA.shardings(model, mesh)
    one = jax.jit(jax.grad(loss_fn(model, LORA), has_aux=True))
    eight = jax.jit(jax.grad(loss_fn(sharded, LORA), has_aux=True), out_shardings=(shardings, None))
    rows = jax.tree.map(lambda x: jnp.tile(x, (2, 1)), batch)
    expected, logits = one(adapters, batch, params)
    grads, all_logits = eight(
        jax.device_put(adapters, shardings),
        put_batch(rows, mesh),
        jax.device_put(params, models.param_shardings(model, mesh)),
    )
    assert np.abs(all_logits - jnp.tile(logits, (2, 1, 1))).max() <= TOLERANCE
    for got, want in zip(jax.tree.leaves(grads), jax.tree.leaves(expected), strict=True):
        assert np.abs(got - want).max() <= TOLERANCE * np.abs(want).max()


def test_adapters_are_divided_over_the_mesh_as_their_kernels_are(tiny):
    model, params = tiny
    mesh = make_mesh(fsdp=4, tensor=2)
    adapters = LORA.init(model, jax.random.key(0), mesh=mesh)
    alone = LORA.init(model, jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, adapters, alone)
    found = {name: [pair[x].sharding.spec for x in "ab"] for name, pair in _pairs(adapters)}
    assert found["q_proj"] == [P(None, "fsdp", None), P(None, None, "tensor", None)]
    assert found["o_proj"] == [P(None, "tensor", None, None), P(None, None, "fsdp")]
    assert found["down_proj"] == [P(None, "tensor", None), P(None, None, "fsdp")]

    places = lambda tree: jax.tree.map(lambda x: x.sharding, tree)  # noqa: E731
    for where in (models.param_shardings(model, mesh), replicated(mesh)):
        weights = jax.device_put(params, where)
        assert places(merge_lora(weights, adapters, LORA)) == places(weights)


def test_a_step_of_training_moves_the_adapters_alone(tiny, batch):
    model, params = tiny
    adapters, loss = LORA.init(model, jax.random.key(0)), loss_fn(model, LORA)
    optimizer = optax.adam(1e-2)

    @jax.jit
    def step(adapters, state, params):
        (value, _), grads = jax.value_and_grad(loss, has_aux=True)(adapters, batch, params)
        updates, state = optimizer.update(grads, state)
        return optax.apply_updates(adapters, updates), state, value

    state, losses = optimizer.init(adapters), []
    for _ in range(5):
        adapters, state, value = step(adapters, state, params)
        losses.append(float(value))
    assert losses == sorted(losses, reverse=True) and losses[-1] < losses[0] - 0.1
    assert len(jax.tree.leaves(state)) == 2 * len(jax.tree.leaves(adapters)) + 1


def _pairs(adapters):
    for room in adapters["layers"].values():
        yield from room.items()
