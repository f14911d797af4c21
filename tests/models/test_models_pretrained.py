# SPDX-License-Identifier: Apache-2.0
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from unilogit_jax import models
from unilogit_jax.errors import ConfigError, WeightsError
from unilogit_jax.sharding import make_mesh

LLAMA3 = models.Rope(theta=5e5, kind="llama3", factor=32.0, original_max_length=16)


@pytest.fixture
def folder(tiny, tmp_path):
    models.save(tmp_path / "model", *tiny)
    return tmp_path / "model"


def same(a, b):
    assert a.dtype == b.dtype
    np.testing.assert_array_equal(a, b)


def edit(folder, **changes):
    path = folder / "config.json"
    config = json.loads(path.read_text()) | changes
    config = {key: value for key, value in config.items() if value != "drop"}
    path.write_text(json.dumps(config))


def retensor(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def split(folder, **entries):
    """Two files and an index in place of the single file; `entries` overwrite the index."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    index = {}
    for i in range(2):
        names = sorted(tensors)[i::2]
        save_file({name: tensors[name] for name in names}, folder / f"part-{i}.safetensors")
        index |= dict.fromkeys(names, f"part-{i}.safetensors")
    index |= entries
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))


@pytest.mark.parametrize(
    "fields",
    [{}, {"tie_embeddings": False, "head_dim": 24, "kv_heads": 1, "rope": LLAMA3, "layers": 3}],
)
def test_save_then_load_is_bit_identical(make_tiny, tmp_path, fields):
    model, params = make_tiny(**fields)
    models.save(tmp_path / "model", model, params)
    again, loaded = models.load(tmp_path / "model")
    assert again.config == model.config
    jax.tree.map(same, params, loaded)


def test_bfloat16_files_hold_the_rounded_values_and_load_as_float32(tiny, tmp_path):
    models.save(tmp_path / "model", *tiny, dtype="bfloat16")
    model, loaded = models.load(tmp_path / "model", dtype="bfloat16")
    assert model.config.dtype == "bfloat16"
    rounded = jax.tree.map(lambda x: x.astype(jnp.bfloat16).astype(jnp.float32), tiny[1])
    jax.tree.map(same, rounded, loaded)
    _, small = models.load(tmp_path / "model", param_dtype="bfloat16")
    jax.tree.map(same, jax.tree.map(lambda x: x.astype(jnp.bfloat16), tiny[1]), small)


def test_several_files_with_an_index_load_like_one(tiny, folder):
    split(folder)
    jax.tree.map(same, tiny[1], models.load(folder)[1])


def test_loading_on_a_mesh_divides_the_parameters(tiny, folder):
    mesh = make_mesh(fsdp=4, tensor=2)
    model, params = models.load(folder, mesh=mesh)
    jax.tree.map(same, tiny[1], params)
    assert model.mesh == mesh
    kernel = params["layers"]["mlp"]["down_proj"]["kernel"]
    assert kernel.addressable_shards[0].data.shape == (2, kernel.shape[1] // 2, 32 // 4)


def test_sharded_parameters_are_saved_whole(tiny, tmp_path):
    model, params = tiny
    spread = jax.device_put(params, models.param_shardings(model, make_mesh(fsdp=4, tensor=2)))
    models.save(tmp_path / "model", model, spread)
    jax.tree.map(same, params, models.load(tmp_path / "model")[1])


def test_extra_keys_reach_config_and_generation_config(tiny, tmp_path):
    models.save(tmp_path / "model", *tiny, extra_config={"eos_token_id": [2, 3], "note": "x"})
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    generation = json.loads((tmp_path / "model" / "generation_config.json").read_text())
    assert config["note"] == "x"
    assert config["eos_token_id"] == generation["eos_token_id"] == [2, 3]


def test_both_config_dialects_mean_the_same(folder):
    expected = models.read_decoder_config(folder)
    edit(
        folder,
        rope_theta="drop",
        rope_scaling="drop",
        rope_parameters={"rope_type": "default", "rope_theta": expected.rope.theta},
    )
    assert models.read_decoder_config(folder) == expected
    scaling = {
        "factor": 8,
        "low_freq_factor": 1,
        "high_freq_factor": 4,
        "original_max_position_embeddings": 8192,
    }
    new = {"rope_type": "llama3", "rope_theta": 500000, **scaling}
    edit(folder, rope_parameters=new)
    read_new = models.read_decoder_config(folder)
    old = {"type": "llama3", **scaling}
    edit(folder, rope_parameters="drop", rope_theta=500000, rope_scaling=old)
    assert models.read_decoder_config(folder) == read_new
    assert read_new.rope == models.Rope(theta=5e5, kind="llama3")


def test_missing_keys_mean_the_family_defaults(folder):
    names = ("num_key_value_heads", "head_dim", "rope_theta", "rope_scaling", "rms_norm_eps")
    edit(folder, tie_word_embeddings="drop", **dict.fromkeys(names, "drop"))
    config = models.read_decoder_config(folder)
    assert (config.kv_heads, config.head_dim, config.norm_eps) == (4, 8, 1e-6)
    assert config.rope == models.Rope() and not config.tie_embeddings


def test_old_rotary_buffers_and_a_copied_head_are_no_obstacle(tiny, folder):
    def add(tensors):
        tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.ones(4, np.float32)
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].copy()

    retensor(folder, add)
    jax.tree.map(same, tiny[1], models.load(folder)[1])


NORM, HEAD, UP = "model.norm.weight", "lm_head.weight", "model.layers.1.mlp.up_proj.weight"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model_type": "llamma"},
            "model_type 'llamma' is not supported; known: .* Did you",
        ),
        ({"model_type": "drop"}, "model_type 'None' is not supported; known: llama, mistral"),
        ({"hidden_act": "gulu"}, "hidden_act = 'gulu' is not supported; known: 'silu'"),
        ({"rope_scaling": {"type": "yarm"}}, "rope type 'yarm' .*; known: default, linear"),
        ({"rope_parameters": {"rope_type": "linear"}}, "rope type 'linear' lacks factor"),
        ({"rms_norm_eps": "small"}, "'rms_norm_eps' must be a number, got 'small'"),
        ({"rope_scaling": {"rope_type": "llama3"}}, "rope type 'llama3' lacks factor"),
        ({"quantization_config": {"bits": 4}}, "quantised weights"),
        ({"hidden_size": "drop"}, "'hidden_size' must be a whole number, got None"),
        ({"num_key_value_heads": 3}, "config.json: heads .4. must be a multiple of kv_heads .3."),
    ],
)
def test_a_config_of_another_kind_is_refused_by_name(folder, changes, message):
    edit(folder, **changes)
    with pytest.raises(WeightsError, match=message):
        models.load(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(NORM), "lacks 1 tensor.s.: model.norm.weight"),
        (lambda t: t.update(x=t[NORM]), "has unexpected 1 tensor.s.: x"),
        (lambda t: t.update({UP: t[UP].T.copy()}), r"up_proj.weight' has shape \[32, 96\], config"),
        (lambda t: t.update({NORM: np.ones(32, np.int8)}), "has type I8; known: F64, F32"),
        (lambda t: t.update({HEAD: np.ones((64, 32), np.float32)}), "ties the head .* differs"),
    ],
)
def test_tensors_that_do_not_fit_the_config_are_refused_by_name(folder, change, message):
    retensor(folder, change)
    with pytest.raises(WeightsError, match=message):
        models.load(folder)


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(WeightsError, match="nowhere is no folder"):
        models.load(tmp_path / "nowhere")


def test_a_folder_without_config_is_refused(folder):
    (folder / "config.json").unlink()
    with pytest.raises(WeightsError, match=r"has no config\.json"):
        models.load(folder)


def test_a_config_that_is_no_json_is_refused(folder):
    (folder / "config.json").write_text("{")
    with pytest.raises(WeightsError, match="cannot be read as JSON"):
        models.load(folder)


def test_a_folder_of_pickles_is_refused(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(WeightsError, match=r"only pickle files \(pytorch_model\.bin\)"):
        models.load(folder)


def test_a_folder_without_weights_is_refused(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"has no model\.safetensors and no"):
        models.load(folder)


@pytest.mark.parametrize("kept", [3, 200, -8])
def test_a_truncated_file_is_refused(folder, kept):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(WeightsError, match=r"model\.safetensors is damaged or cut short"):
        models.load(folder)


def test_an_index_that_misses_a_file_is_refused(folder):
    split(folder)
    (folder / "part-1.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"part-1\.safetensors is missing"):
        models.load(folder)


@pytest.mark.parametrize("entry", ["../x.safetensors", "/etc/passwd", "a/b", "a\\b", "..", "", 3])
def test_an_index_that_points_outside_its_folder_is_refused(folder, entry):
    split(folder, **{NORM: entry})
    with pytest.raises(WeightsError, match="points outside its folder"):
        models.load(folder)


def test_an_index_that_names_the_wrong_file_is_refused(folder):
    split(folder, another="part-0.safetensors")
    with pytest.raises(WeightsError, match=r"looks for 'another' in part-0\.safetensors"):
        models.load(folder)


def test_an_index_without_a_map_is_refused(folder):
    (folder / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(WeightsError, match="has no 'weight_map'"):
        models.load(folder)


def test_saving_over_something_is_refused_and_leaves_it_alone(tiny, folder):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(WeightsError, match="exists and is not empty"):
        models.save(folder, *tiny)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_save_that_fails_leaves_nothing_behind(tiny, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError("no space left")

    monkeypatch.setattr("safetensors.numpy.save_file", full)
    with pytest.raises(WeightsError, match="cannot be written: no space left"):
        models.save(tmp_path / "model", *tiny)
    assert not list(tmp_path.iterdir())


def test_saved_files_are_as_readable_as_any_new_file(folder):
    modes = {path.stat().st_mode for path in folder.iterdir()}
    assert len(modes) == 1


def test_an_unknown_dtype_is_refused(tiny, folder, tmp_path):
    with pytest.raises(ConfigError, match="param_dtype 'int8' is unknown"):
        models.load(folder, param_dtype="int8")
    with pytest.raises(ConfigError, match="dtype 'int8' is unknown"):
        models.save(tmp_path / "other", *tiny, dtype="int8")
