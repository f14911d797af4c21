# SPDX-License-Identifier: Apache-2.0
import json
import math
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from unilogit_jax import models
from unilogit_jax.errors import ConfigError
from unilogit_jax.models import blocks, hf_io
from unilogit_jax.models.folders import LocalFolder
from unilogit_jax.sharding import make_mesh

COMMON = {
    **dict.fromkeys(("hidden_size", "n_embd", "intermediate_size"), 64),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "num_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "num_heads", "n_head"), 8),
    **dict.fromkeys(("max_position_embeddings", "n_positions"), 16),
    "vocab_size": 48,
    "head_dim": 16,
}
"""Sizes under the names of all families."""
OWN_SIZES = {
    **{name: {"num_key_value_heads": 4} for name in ("llama", "qwen2", "qwen3", "gemma")},
    "phi3": {"num_key_value_heads": 4, "head_dim": 8},
    "gemma3": {"text_config": {**COMMON, "num_key_value_heads": 4}},
}


@pytest.fixture
def make_folder(tmp_path):
    """make_folder(family, **config): a folder of random bfloat16 weights, by the library."""

    def make(family, **fields):
        folder = tmp_path / family
        folder.mkdir()
        config = {**COMMON, "model_type": family, **OWN_SIZES.get(family, {}), **fields}
        (folder / "config.json").write_text(json.dumps(config))
        decoder = models.read_decoder_config(folder)
        rng, tensors = np.random.default_rng(0), {}
        for weight in models.weight_table(decoder, models.FAMILIES[family]):
            for name in weight.names(decoder.layers):
                values = rng.standard_normal(weight.hf_shape)
                tensors[name] = values.astype(jnp.bfloat16)
        save_file(tensors, folder / "model.safetensors")
        return folder

    return make


@pytest.fixture
def reads(monkeypatch):
    """The (start, end) of everything that is read from model.safetensors."""
    seen, read = [], LocalFolder.read

    def record(self, name, start, out):
        if name == "model.safetensors":
            seen.append((start, start + out.size))
        read(self, name, start, out)

    monkeypatch.setattr(LocalFolder, "read", record)
    return seen


@pytest.fixture
def tiny_folder(tiny, tmp_path):
    models.save(tmp_path / "model", *tiny)
    return tmp_path / "model"


def same(a, b):
    assert a.dtype == b.dtype
    np.testing.assert_array_equal(a, b)


def expected(folder, family):
    """Every parameter, from whole tensors that the library has read."""
    config, tensors = models.read_decoder_config(folder), load_file(folder / "model.safetensors")
    for weight in models.weight_table(config, models.FAMILIES[family]):
        layers = [weight.read(tensors[name]) for name in weight.names(config.layers)]
        yield weight, np.stack(layers) if weight.stacked else layers[0]


@pytest.mark.parametrize("family", models.FAMILIES)
def test_every_family_is_read_right_and_every_byte_once(make_folder, reads, family):
    folder = make_folder(family)
    size = (folder / "model.safetensors").stat().st_size
    for mesh in (None, make_mesh(fsdp=4, tensor=2)):
        reads.clear()
        _, params = models.load(folder, param_dtype="bfloat16", mesh=mesh)
        place = 0
        for start, end in sorted(reads):  # they follow one another: no hole, nothing twice
            assert start == place
            place = end
        assert place == size
        for weight, value in expected(folder, family):
            array = params
            for key in weight.path:
                array = array[key]
            same(value, np.asarray(array))


@pytest.mark.parametrize("family", ["llama", "phi3", "gpt_neox", "gpt2"])
def test_a_process_with_a_quarter_of_the_devices_reads_a_quarter(make_folder, reads, family):
    folder = make_folder(family)
    config = models.read_decoder_config(folder)
    mesh = make_mesh(fsdp=4, tensor=2)
    shardings = models.param_shardings(models.Decoder(config), mesh)
    ours, wanted, total = mesh.devices[0, 1].tolist(), 0, 0
    with LocalFolder(folder) as files, ThreadPoolExecutor(2) as pool:
        places = hf_io.find_tensors(files)
        reads.clear()
        for weight, value in expected(folder, family):
            target = shardings
            for key in weight.path:
                target = target[key]
            indices = target.devices_indices_map(value.shape)
            held = {blocks.bounds_of(indices[device], value.shape) for device in ours}
            parts = {p: np.empty([b - a for a, b in p], np.float32) for p in held}
            tensors = [hf_io.Tensor(files, places[n]) for n in weight.names(config.layers)]
            volume = sum(blocks.read_parts(weight, tensors, parts, pool))
            for bounds, part in parts.items():
                same(value[tuple(slice(*b) for b in bounds)].astype(np.float32), part)
                wanted += 2 * part.size
            assert volume == sum(part.size for part in parts.values())
            total += 2 * value.size
    assert sum(end - start for start, end in reads) == wanted
    assert 0.25 <= wanted / total < 0.28  # norms and biases are not divided


def test_a_part_that_several_devices_hold_is_read_once(make_folder, reads):
    folder = make_folder("llama")
    models.load(folder, mesh=make_mesh(data=8, fsdp=1))
    assert sum(end - start for start, end in reads) == (folder / "model.safetensors").stat().st_size


def test_the_host_holds_one_parameter_and_some_layers_at_a_time(make_folder, monkeypatch):
    folder = make_folder("llama", vocab_size=512, num_hidden_layers=32, intermediate_size=512)
    monkeypatch.setattr(jax, "make_array_from_callback", lambda shape, *_: jnp.zeros(()))
    models.load(folder)
    tracemalloc.start()
    model, _ = models.load(folder)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    sizes = [4 * leaf.size for leaf in jax.tree.leaves(models.param_shapes(model))]
    layers = blocks.WORKERS * 4 * max(sizes) // 32
    assert max(sizes) < peak < max(sizes) + layers + 1e6 < sum(sizes) / 2


def test_loading_on_a_mesh_divides_the_parameters(tiny, tiny_folder):
    mesh = make_mesh(fsdp=4, tensor=2)
    model, params = models.load(tiny_folder, mesh=mesh)
    jax.tree.map(same, tiny[1], params)
    assert model.mesh == mesh
    kernel = params["layers"]["mlp"]["down_proj"]["kernel"]
    assert kernel.addressable_shards[0].data.shape == (2, kernel.shape[1] // 2, 32 // 4)


def test_tables_are_read_in_pieces(tiny, tiny_folder, monkeypatch, reads):
    monkeypatch.setattr(blocks, "CHUNK", 10 * 32)
    jax.tree.map(same, tiny[1], models.load(tiny_folder)[1])
    assert [end - start for start, end in reads].count(4 * 10 * 32) == 6  # of the 64 rows


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.float16, jnp.bfloat16])
def test_every_floating_type_is_read_as_the_one_asked_for(make_folder, kind):
    folder = make_folder("llama")
    tensors = {k: v.astype(kind) for k, v in load_file(folder / "model.safetensors").items()}
    save_file(tensors, folder / "model.safetensors")
    _, params = models.load(folder)
    same(tensors["model.norm.weight"].astype(np.float32), params["norm"]["scale"])


def test_progress_ends_at_all_bytes_and_never_falls(tiny, tiny_folder):
    seen = []
    models.load(tiny_folder, progress=lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert seen[-1] == (seen[0][1],) * 2
    assert seen[0][1] == sum(leaf.nbytes for leaf in jax.tree.leaves(tiny[1]))


def test_attention_and_dtype_of_the_computation_are_taken_over(tiny_folder):
    model, _ = models.load(tiny_folder, attention="xla", dtype="bfloat16")
    assert (model.config.attention, model.config.dtype) == ("xla", "bfloat16")
    assert models.load(tiny_folder)[0].config.attention == "auto"


def test_old_rotary_buffers_and_a_copied_head_are_no_obstacle(tiny, tiny_folder):
    tensors = load_file(tiny_folder / "model.safetensors")
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.ones(4, np.float32)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].copy()
    save_file(tensors, tiny_folder / "model.safetensors")
    jax.tree.map(same, tiny[1], models.load(tiny_folder)[1])


def test_files_are_closed_after_loading(tiny_folder, monkeypatch):
    opened, closed = [], []
    enter, leave = LocalFolder._file, LocalFolder.__exit__
    monkeypatch.setattr(LocalFolder, "_file", lambda s, n: opened.append(s) or enter(s, n))
    monkeypatch.setattr(LocalFolder, "__exit__", lambda s, *e: leave(s, *e) or closed.append(s))
    models.load(tiny_folder)
    assert {id(folder) for folder in opened} == {id(folder) for folder in closed}
    assert not any(folder._open for folder in closed)


def test_an_unknown_dtype_or_attention_is_refused(tiny_folder):
    for field in ("dtype", "param_dtype", "attention"):
        with pytest.raises(ConfigError, match=f"{field} 'int8' is unknown"):
            models.load(tiny_folder, **{field: "int8"})


def test_both_config_dialects_mean_the_same(tiny_folder):
    path = tiny_folder / "config.json"
    config = json.loads(path.read_text())

    def read(**changes):
        kept = {k: v for k, v in config.items() if not k.startswith("rope")}
        path.write_text(json.dumps(kept | changes))
        return models.read_decoder_config(tiny_folder)

    scaling = {
        "factor": 8,
        "low_freq_factor": 1,
        "high_freq_factor": 4,
        "original_max_position_embeddings": 8192,
    }
    old = read(rope_theta=500000, rope_scaling={"type": "llama3", **scaling})
    new = {"rope_type": "llama3", "rope_theta": 500000, **scaling}
    assert read(rope_parameters=new) == old
    assert old.rope == models.Rope(theta=5e5, kind="llama3")
    plain = {"rope_type": "default", "rope_theta": 5e5}
    assert read(rope_parameters=plain) == read(rope_theta=5e5)


def test_missing_keys_mean_the_family_defaults(tiny_folder):
    path = tiny_folder / "config.json"
    names = ("num_key_value_heads", "head_dim", "rope_theta", "rope_scaling", "rms_norm_eps")
    config = json.loads(path.read_text())
    dropped = (*names, "tie_word_embeddings")
    path.write_text(json.dumps({k: v for k, v in config.items() if k not in dropped}))
    config = models.read_decoder_config(tiny_folder)
    assert (config.kv_heads, config.head_dim, config.norm_eps) == (4, 8, 1e-6)
    assert config.rope == models.Rope() and not config.tie_embeddings


@pytest.mark.parametrize("shape", [(300, 70), (70, 300), (5, 1), (0, 3)])
@pytest.mark.parametrize("kinds", [("f4", jnp.bfloat16), (jnp.bfloat16, "f4"), ("f4", "f4")])
def test_copying_by_panels_equals_a_plain_assignment(rng, shape, kinds):
    source = rng.standard_normal(shape).astype(kinds[0])
    for view in (source, source.T, source[1:-1:2], source.T[1:-1]):
        target = np.zeros(view.shape, kinds[1])
        blocks.copy(target, view)
        same(view.astype(kinds[1]), target)
        assert math.prod(target.shape) == view.size
