# SPDX-License-Identifier: Apache-2.0
import errno
import json
import os
import shutil
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from unilogit_jax import models
from unilogit_jax.errors import ConfigError, WeightsError
from unilogit_jax.models import blocks, stored, writing
from unilogit_jax.sharding import make_mesh

LLAMA3 = models.Rope(theta=5e5, kind="llama3", factor=32.0, original_max_length=16)
FUSED = {
    "phi3": {"intermediate_size": 48, "num_key_value_heads": 2},
    "gpt_neox": {"intermediate_size": 48},
    "gpt2": {"n_inner": 48},
}


def same(a, b):
    assert a.dtype == b.dtype
    np.testing.assert_array_equal(a, b)


def read_all(folder):
    """All tensors, by the library."""
    return {k: v for file in folder.glob("*.safetensors") for k, v in load_file(file).items()}


def spread(model, params):
    """The parameters on eight devices."""
    return jax.device_put(params, models.param_shardings(model, make_mesh(fsdp=4, tensor=2)))


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


@pytest.mark.parametrize("family", FUSED)
def test_fused_interleaved_and_turned_tensors_come_back_bit_for_bit(tmp_path, family):
    source = tmp_path / "source"
    source.mkdir()
    sizes = dict.fromkeys(("hidden_size", "n_embd"), 32) | dict.fromkeys(
        ("num_attention_heads", "n_head"), 4
    )
    layers = dict.fromkeys(("num_hidden_layers", "n_layer"), 2)
    config = {"model_type": family, "vocab_size": 40, **sizes, **layers, **FUSED[family]}
    (source / "config.json").write_text(json.dumps(config))
    decoder = models.Decoder(models.read_decoder_config(source))
    shapes, rng = models.param_shapes(decoder), np.random.default_rng(1)
    params = jax.tree.map(lambda s: rng.standard_normal(s.shape, np.float32), shapes)
    models.save(tmp_path / "one", decoder, params)
    models.save(tmp_path / "eight", decoder, spread(decoder, params), file_bytes=20_000)
    jax.tree.map(same, params, jax.tree.map(np.asarray, models.load(tmp_path / "one")[1]))
    one, eight = read_all(tmp_path / "one"), read_all(tmp_path / "eight")
    assert one.keys() == eight.keys() == dict(models.hf_tensors(decoder, params)).keys()
    for name, tensor in models.hf_tensors(decoder, params):
        same(tensor, one[name])
        same(tensor, eight[name])


def test_bfloat16_files_hold_the_rounded_values_and_load_as_float32(tiny, tmp_path):
    models.save(tmp_path / "model", *tiny, dtype="bfloat16")
    model, loaded = models.load(tmp_path / "model", dtype="bfloat16")
    assert model.config.dtype == "bfloat16"
    rounded = jax.tree.map(lambda x: x.astype(jnp.bfloat16).astype(jnp.float32), tiny[1])
    jax.tree.map(same, rounded, loaded)
    _, small = models.load(tmp_path / "model", param_dtype="bfloat16")
    jax.tree.map(same, jax.tree.map(lambda x: x.astype(jnp.bfloat16), tiny[1]), small)


def test_small_files_are_told_of_in_an_index_and_hold_the_same(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(stored, "CHUNK", 10 * 32)
    models.save(tmp_path / "one", *tiny)
    models.save(tmp_path / "many", *tiny, file_bytes=30_000)
    names = sorted(path.name for path in (tmp_path / "many").glob("*.safetensors"))
    assert names == [f"model-{i:05d}-of-{len(names):05d}.safetensors" for i in (1, 2, 3, 4)]
    one, many = read_all(tmp_path / "one"), read_all(tmp_path / "many")
    jax.tree.map(same, one, many)
    index = json.loads((tmp_path / "many" / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in one.values())
    for name, file in index["weight_map"].items():
        assert name in load_file(tmp_path / "many" / file)
    with safe_open(tmp_path / "one" / "model.safetensors", "numpy") as file:
        assert file.metadata() == {"format": "pt"}


def test_every_parameter_is_gathered_once(tiny, tmp_path, monkeypatch):
    made, make = [], blocks.HostArray.__init__
    monkeypatch.setattr(
        blocks.HostArray,
        "__init__",
        lambda self, array: made.append(id(array)) or make(self, array),
    )
    params = spread(*tiny)
    models.save(tmp_path / "model", tiny[0], params, file_bytes=10_000)
    assert sorted(made) == sorted(id(leaf) for leaf in jax.tree.leaves(params))


def test_saving_keeps_no_copy_of_the_parameters_on_the_host(tiny, tmp_path):
    params = spread(*tiny)
    models.save(tmp_path / "model", tiny[0], params)
    for leaf in jax.tree.leaves(params):
        assert leaf._npy_value is None
        assert all(shard.data._npy_value is None for shard in leaf.addressable_shards)


def test_the_host_holds_some_layers_at_a_time(make_tiny, tmp_path):
    model, params = make_tiny(layers=32, width=64, mlp_width=512)
    params = spread(model, params)
    models.save(tmp_path / "warm", model, params)
    tracemalloc.start()
    models.save(tmp_path / "model", model, params)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    sizes = [leaf.nbytes for leaf in jax.tree.leaves(params)]
    assert peak < (blocks.WORKERS + 1) * 4 * max(sizes) // 32 + 1e6 < sum(sizes) / 3


def test_extra_keys_and_files_reach_the_folder(tiny, tmp_path):
    models.save(
        tmp_path / "model",
        *tiny,
        extra_config={"eos_token_id": [2, 3], "note": "x"},
        extra_files={"README.md": "a model"},
    )
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    generation = json.loads((tmp_path / "model" / "generation_config.json").read_text())
    assert config["note"] == "x"
    assert config["eos_token_id"] == generation["eos_token_id"] == [2, 3]
    assert (tmp_path / "model" / "README.md").read_text() == "a model"


def test_the_config_that_a_model_was_read_from_is_passed_on(tiny, tmp_path):
    models.save(tmp_path / "model", *tiny)
    path = tmp_path / "model" / "config.json"
    config = json.loads(path.read_text()) | {"note": "kept", "torch_dtype": "bfloat16"}
    del config["dtype"]
    path.write_text(json.dumps(config))
    models.save(tmp_path / "again", *models.load(tmp_path / "model"))
    del config["torch_dtype"]
    again = json.loads((tmp_path / "again" / "config.json").read_text())
    assert again == config | {"dtype": "bfloat16"}
    assert {t.dtype for t in read_all(tmp_path / "again").values()} == {jnp.dtype("bfloat16")}


def test_progress_ends_at_all_bytes_and_never_falls(tiny, tmp_path):
    seen = []
    models.save(tmp_path / "m", *tiny, progress=lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert seen[-1] == (sum(t.nbytes for t in read_all(tmp_path / "m").values()),) * 2


def test_saving_over_something_is_refused_and_leaves_it_alone(tiny, tmp_path):
    models.save(tmp_path / "model", *tiny)
    before = {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}
    with pytest.raises(WeightsError, match="exists and is not empty"):
        models.save(tmp_path / "model", *tiny)
    assert {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()} == before


def test_an_empty_folder_and_what_a_killed_process_left_are_replaced(tiny, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / f".model.{os.getpid()}.part").mkdir()
    models.save(tmp_path / "model", *tiny)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize(
    ("owner", "name", "after"),
    [(os, "pwrite", 5), (os, "fsync", 1), (os, "replace", 0), (Path, "write_text", 1)],
)
def test_a_disk_that_runs_full_leaves_nothing_behind(
    tiny, tmp_path, monkeypatch, owner, name, after
):
    calls, original = [], getattr(owner, name)

    def full(*args, **kwargs):
        calls.append(args)
        if len(calls) > after:
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, full)
    with pytest.raises(WeightsError, match=r"model cannot be written: .*No space left on device"):
        models.save(tmp_path / "model", *tiny)
    assert len(calls) > after and not list(tmp_path.iterdir())


def test_a_disk_that_is_too_small_is_seen_before_anything_is_written(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9, 9, 1000))
    monkeypatch.setattr(Path, "mkdir", None)
    with pytest.raises(WeightsError, match=r"model needs 0\.0 GB, .* has 0\.0 GB left"):
        models.save(tmp_path / "new" / "model", *tiny)


def test_an_interrupted_save_leaves_nothing_behind(tiny, tmp_path):
    def interrupt(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        models.save(tmp_path / "model", *tiny, progress=interrupt)
    assert not list(tmp_path.iterdir())


def test_saved_files_are_as_readable_as_any_new_file(tiny, tmp_path):
    models.save(tmp_path / "model", *tiny)
    (tmp_path / "new").write_text("")
    modes = {path.stat().st_mode for path in (tmp_path / "model").iterdir()}
    assert modes == {(tmp_path / "new").stat().st_mode}


def test_a_mount_point_is_refused_before_anything_is_written(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(os.path, "ismount", lambda path: path == tmp_path)
    with pytest.raises(WeightsError, match="is a mount point"):
        models.save(tmp_path, *tiny)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("folder", ["s3://bucket/model", Path("gs://bucket/model")])
def test_writing_to_other_urls_is_refused(tiny, folder):
    with pytest.raises(ConfigError, match=r"(cannot be used|was a URL before it became a Path)"):
        models.save(folder, *tiny)


def test_a_model_in_a_bucket_is_the_one_of_a_disk_and_its_config_comes_last(tiny, gcs, tmp_path):
    extra = {"extra_files": {"README.md": "card"}, "file_bytes": 30_000}
    models.save(tmp_path / "model", *tiny, **extra)
    models.save(f"{gcs.url}/model", *tiny, **extra)
    files = {f"model/{path.name}": path.read_bytes() for path in (tmp_path / "model").iterdir()}
    assert {name: gcs.read(name) for name in gcs.names()} == files
    assert gcs.wrote[-1] == "model/config.json"
    jax.tree.map(same, models.load(f"{gcs.url}/model")[1], tiny[1])
    with pytest.raises(WeightsError, match="model exists and is not empty"):
        models.save(f"{gcs.url}/model", *tiny)


def test_what_a_bucket_refuses_is_told_before_anything_is_converted(tiny, gcs, monkeypatch):
    monkeypatch.setattr(writing, "_write_tensors", None)
    with pytest.raises(WeightsError, match="there is no bucket gs://none"):
        models.save("gs://none/model", *tiny)
    gcs.refused["POST", gcs.bucket] = 403
    with pytest.raises(WeightsError, match=r"cannot be written \(.*the stand-in refuses"):
        models.save(f"{gcs.url}/model", *tiny)


def test_a_disk_too_full_for_the_copy_that_is_uploaded_is_told(tiny, gcs, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10))
    with pytest.raises(WeightsError, match=r"has 0\.0 GB left: free some or set TMPDIR"):
        models.save(f"{gcs.url}/model", *tiny)
    assert not gcs.names()


def test_an_unknown_dtype_is_refused(tiny, tmp_path):
    with pytest.raises(ConfigError, match="dtype 'int8' is unknown"):
        models.save(tmp_path / "other", *tiny, dtype="int8")
