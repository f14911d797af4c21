# SPDX-License-Identifier: Apache-2.0
"""Trained and untrained weights: what patterns name, what stays bit for bit, what is kept."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from unilogit_jax import models
from unilogit_jax.errors import ConfigError
from unilogit_jax.sharding import put_batch
from unilogit_jax.train import EVERYTHING, choose_trainable, init_state, make_optimizer, make_step

ONE = {"data": 1, "fsdp": 1, "tensor": 1}
EIGHT = {"data": 1, "fsdp": 4, "tensor": 2}
SHAPES = {
    "embed": {"kernel": np.zeros((9, 4))},
    "layers": {
        "attn": {"q_proj": {"kernel": np.zeros((8, 4))}},
        "attn_norm": {"scale": np.zeros((8, 4))},
        "mlp": {"down_proj": {"kernel": np.zeros((8, 4)), "bias": np.zeros((8, 4))}},
    },
    "norm": {"scale": np.zeros(4)},
}


def names(tree):
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {".".join(key.key for key in path): leaf for path, leaf in leaves}


def chosen(*patterns, **rates):
    """Name of a weight -> the layers that are trained, or True for all of it."""
    parts = choose_trainable(SHAPES, patterns, rates.get("rates")).parts
    found = zip(names(SHAPES), parts, strict=True)
    return {name: part.layers or True for name, part in found if part is not None}


Q, SCALE = "layers.attn.q_proj.kernel", "layers.attn_norm.scale"
DOWN = ("layers.mlp.down_proj.bias", "layers.mlp.down_proj.kernel")


@pytest.mark.parametrize(
    ("patterns", "wanted"),
    [
        (["embed"], {"embed.kernel": True}),
        (["norm"], {"norm.scale": True}),
        (["*_proj.kernel", "norm"], {Q: True, DOWN[1]: True, "norm.scale": True}),
        (["down_proj"], dict.fromkeys(DOWN, True)),
        (["layers.mlp.*"], dict.fromkeys(DOWN, True)),
        (["layers.5-7.mlp.down_proj"], dict.fromkeys(DOWN, (5, 6, 7))),
        (["layers.5-7.down_proj.kernel"], {DOWN[1]: (5, 6, 7)}),
        (["layers.0-7.q_proj"], {Q: True}),
        (["layers.2"], dict.fromkeys((*DOWN, Q, SCALE), (2,))),
        (["layers.6.attn", "layers.1.attn.*"], {Q: (1, 6)}),
        (["layers.0.q_proj", "q_proj"], {Q: True}),
        (["*"], dict.fromkeys(names(SHAPES), True)),
    ],
)
def test_a_pattern_names_what_it_says(patterns, wanted):
    assert chosen(*patterns, rates={"embed": 1.0}) == wanted


def test_of_several_rates_the_last_that_fits_counts_layer_by_layer():
    rates = {"*": 0.5, "layers.2-3": 0.1, "q_proj": 3.0, "layers.3.attn": 2.0}
    parts = choose_trainable(SHAPES, ["layers.1-3", "norm"], rates).parts
    found = dict(zip(names(SHAPES), (part and part.factors for part in parts), strict=True))
    assert found == {
        "embed.kernel": None,
        Q: (3.0, 3.0, 2.0),
        SCALE: (0.5, 0.1, 0.1),
        **dict.fromkeys(DOWN, (0.5, 0.1, 0.1)),
        "norm.scale": (0.5,),
    }


@pytest.mark.parametrize(
    ("patterns", "span"),
    [
        (["layers.5-7.down_proj"], (5, 8)),
        (["layers.5.down_proj", "layers.2.q_proj", "embed"], (2, 6)),
        (["layers.5-7.down_proj", "q_proj"], None),
        (["layers.0.down_proj", "layers.7.q_proj"], None),
        (["embed"], None),
    ],
)
def test_the_span_covers_the_trained_layers_where_it_is_of_use(patterns, span):
    assert choose_trainable(SHAPES, patterns).span == span


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("mlp.down_prj", "'mlp.down_prj' names no weight of this model, which has embed, layers."),
        ("mlp.down_prj", "Did you mean 'down_proj'?"),
        (
            "layers.0.mlp.down_prj",
            "of a layer of this model, which has attn.q_proj, attn_norm, mlp.",
        ),
        ("layers.0.down_prj", "Did you mean 'down_proj'?"),
        ("layers.0.embed", "'layers.0.embed' names no weight of a layer"),
        ("layers.5-8", "are 0 to 7"),
        ("layers.7-5", "the lower number comes first"),
    ],
)
def test_a_pattern_that_names_nothing_is_refused_with_what_there_is(pattern, message):
    for key, options in (
        ("trainable", {"trainable": ["embed", pattern]}),
        ("learning_rates", {"learning_rates": {pattern: 0.1}}),
    ):
        with pytest.raises(ConfigError) as caught:
            choose_trainable(SHAPES, where="unlearn.", **options)
        assert str(caught.value).startswith(f"unlearn.{key}: '{pattern}' ")
        assert message in str(caught.value)


def test_by_default_everything_is_trained():
    assert choose_trainable(SHAPES) is EVERYTHING


def one_update(rig_, trainable, optimizer, **options):
    """Weights before and after, the optimizer state's shapes, and the metrics."""
    rig_.trainable, rig_.optimizer = trainable, optimizer
    state, shardings = rig_.state()
    kept = [x.shape for x in jax.tree.leaves(state.opt_state)]
    apply = models.apply_fn(rig_.model.clone(trained=trainable.span))
    options |= {"shardings": shardings, "trainable": trainable}
    step = make_step(rig_.method, apply, optimizer, rig_.mesh, **options)
    before = jax.tree.map(np.asarray, state.params)
    after, metrics = step(state, put_batch(rig_.batches(0), rig_.mesh))
    return names(before), names(jax.tree.map(np.asarray, after.params)), kept, metrics


PATTERNS = ["layers.1.mlp.down_proj", "layers.0.q_proj", "norm"]
RATES = {"norm": 0.25, "layers.1": 2.0}


@pytest.mark.parametrize(("sizes", "parts"), [(ONE, 1), (EIGHT, 3)], ids=["one", "eight"])
def test_trained_weights_move_as_in_full_training_times_their_factor_the_others_not_at_all(
    rig, sizes, parts
):
    sgd = optax.sgd(1.0)
    whole, other = rig(ONE), rig(sizes)
    for each in (whole, other):
        module = each.params["layers"]["mlp"]["down_proj"]
        module["kernel"] = module["kernel"].at[0, 0, 0].set(-0.0)
    before, full, _, _ = one_update(whole, EVERYTHING, sgd)
    trainable = choose_trainable(models.param_shapes(other.model), PATTERNS, RATES)
    start, got, _, metrics = one_update(other, trainable, sgd, microbatches=parts)
    wanted = {name: np.zeros_like(x) for name, x in before.items()}
    down, q = "layers.mlp.down_proj.kernel", "layers.attn.q_proj.kernel"
    wanted["norm.scale"] = 0.25 * (full["norm.scale"] - before["norm.scale"])
    wanted[down][1] = 2.0 * (full[down] - before[down])[1]
    wanted[q][0] = (full[q] - before[q])[0]
    worst = max(np.abs(change).max() for change in wanted.values())
    for name, change in wanted.items():
        still = change == 0
        bits = (x[name].view(np.uint32)[still] for x in (start, got))
        np.testing.assert_array_equal(*bits, err_msg=name)
        assert np.abs(got[name] - start[name] - change).max() <= 1e-5 * worst, name
    assert np.isfinite(float(metrics["loss"]))


@pytest.mark.parametrize("name", ["adamw", "adafactor", "lion"])
def test_optimizers_keep_state_of_trained_weights_and_decay_these_alone(rig, name):
    eight = rig(EIGHT)
    trainable = choose_trainable(models.param_shapes(eight.model), ["layers.1.mlp.*", "embed"])
    options = {"learning_rate": 0.1, "weight_decay": 0.5, "warmup": 0.0}
    optimizer = make_optimizer(10, name=name, **options)
    start, got, kept, metrics = one_update(eight, trainable, optimizer)
    trained = jax.eval_shape(trainable.pick, eight.params)
    own = jax.tree.leaves(jax.eval_shape(make_optimizer(10, name=name, **options).init, trained))
    assert sorted(kept) == sorted(x.shape for x in own)
    moved = {n for n in start if np.any(start[n] != got[n])}
    mlp = {f"layers.mlp.{m}_proj.kernel" for m in ("up", "gate", "down")}
    assert moved == mlp | {"embed.kernel"}
    for n in mlp:
        np.testing.assert_array_equal(start[n][0], got[n][0])
    assert float(metrics["grad_norm"]) > 0


def test_the_norm_that_is_clipped_is_that_of_the_trained_weights(rig):
    one = rig(ONE)
    trainable = choose_trainable(models.param_shapes(one.model), ["layers.1.mlp.down_proj"])
    start, got, _, metrics = one_update(one, trainable, optax.sgd(1.0))
    moved = np.sqrt(sum(np.sum((got[n] - start[n]) ** 2) for n in start))
    assert float(metrics["grad_norm"]) == pytest.approx(moved, rel=1e-4)


def test_moments_of_some_layers_are_divided_over_the_mesh(rig):
    eight = rig(EIGHT)
    eight.trainable = choose_trainable(models.param_shapes(eight.model), ["layers.1.mlp.*"])
    state, _ = eight.state()
    big = [x for x in jax.tree.leaves(state.opt_state) if x.ndim > 1]
    assert len(big) == 6
    for leaf in big:
        assert leaf.shape[0] == 1 and leaf.addressable_shards[0].data.size == leaf.size // 8


def test_a_run_of_some_weights_resumes_bit_for_bit(rig, tmp_path):
    def fresh():
        made = rig(EIGHT, param_dtype="bfloat16")
        made.trainable = choose_trainable(models.param_shapes(made.model), PATTERNS, RATES)
        return made

    def dying(at):
        stage, made = fresh().stage(), fresh()

        def batch_at(i):
            if i == at:
                raise KeyboardInterrupt
            return stage.batch_at(i)

        return made, type(stage)(**{**vars(stage), "batch_at": batch_at})

    whole, lines = fresh().run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        made, stage = dying(5)
        made.run(tmp_path / "parts", stage)
    resumed, last = fresh().run(tmp_path / "parts")
    assert last == lines[4:]
    for a, b in zip(
        *(jax.tree.leaves((s.params, s.opt_state)) for s in (whole, resumed)), strict=True
    ):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
    start = names(fresh().params)
    for name, leaf in names(whole.params).items():
        assert leaf.dtype == jnp.bfloat16
        if name.startswith(("embed", "lm_head", "layers.attn.k_proj")):
            np.testing.assert_array_equal(leaf, start[name])


def test_bfloat16_weights_have_float32_moments_and_follow_the_float32_run(rig, tmp_path):
    wide, _ = rig(ONE).run(tmp_path / "wide")
    narrow, lines = rig(ONE, param_dtype="bfloat16").run(tmp_path / "narrow")
    assert all(x.dtype != jnp.bfloat16 for x in jax.tree.leaves(narrow.opt_state))
    for a, b in zip(*(jax.tree.leaves(s.params) for s in (wide, narrow)), strict=True):
        assert b.dtype == jnp.bfloat16
        # Six steps of 1e-2 move a weight by 0.05; of one rounding the unit is |w| / 128.
        a, b = np.asarray(a), np.asarray(b, np.float32)
        assert np.abs(a - b).mean() < 6 * np.abs(a).mean() / 128
    assert all(0.0 <= line["below_ulp"] < 0.5 for line in lines)
    slow = make_optimizer(6, learning_rate=1e-6, warmup=0.0)
    _, _, _, metrics = one_update(rig(ONE, param_dtype="bfloat16"), EVERYTHING, slow)
    assert float(metrics["below_ulp"]) > 0.9


def test_every_update_rounds_anew_and_the_same_update_alike(rig):
    one = rig(ONE, param_dtype="bfloat16")
    one.optimizer = make_optimizer(6, learning_rate=1e-3, warmup=0.0)
    step = make_step(one.method, one.apply, one.optimizer, one.mesh)
    batch = put_batch(one.batches(0), one.mesh)

    def weights(number):
        state = replace(one.state()[0], step=jnp.asarray(number, jnp.int32))
        return np.asarray(step(state, batch)[0].params["embed"]["kernel"], np.float32)

    first, again, second = weights(0), weights(0), weights(1)
    np.testing.assert_array_equal(first, again)
    assert np.mean(first != second) > 0.1


def test_microbatches_of_bfloat16_weights_add_up_in_float32(rig):
    sgd = optax.sgd(1.0)
    whole = one_update(rig(ONE, param_dtype="bfloat16"), EVERYTHING, sgd)
    cut = one_update(rig(ONE, param_dtype="bfloat16"), EVERYTHING, sgd, microbatches=3)
    assert float(cut[3]["grad_norm"]) == pytest.approx(float(whole[3]["grad_norm"]), rel=5e-3)


def test_what_is_frozen_passes_through_the_step_without_a_copy(rig):
    one = rig(ONE)
    trainable = choose_trainable(models.param_shapes(one.model), ["norm"])
    state, shardings = init_state(
        one.params,
        one.optimizer,
        axes=models.logical_axes(one.model),
        mesh=one.mesh,
        trainable=trainable,
    )
    options = {"shardings": shardings, "trainable": trainable}
    step = make_step(one.method, one.apply, one.optimizer, one.mesh, **options)
    places = {n: x.unsafe_buffer_pointer() for n, x in names(state.params).items()}
    state, _ = step(state, put_batch(one.batches(0), one.mesh))
    for name, leaf in names(state.params).items():
        assert leaf.unsafe_buffer_pointer() == places[name], name
