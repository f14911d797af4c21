# SPDX-License-Identifier: Apache-2.0
import json
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from unilogit_jax import models
from unilogit_jax.errors import WeightsError
from unilogit_jax.models.folders import LocalFolder
from unilogit_jax.models.header import make_header
from unilogit_jax.models.hf_io import Tensor, find_tensors, read_header

SINGLE = "model.safetensors"


@pytest.fixture
def folder(tiny, tmp_path):
    models.save(tmp_path / "model", *tiny)
    return tmp_path / "model"


def edit(folder, **changes):
    path = folder / "config.json"
    config = json.loads(path.read_text()) | changes
    config = {key: value for key, value in config.items() if value != "drop"}
    path.write_text(json.dumps(config))


def retensor(folder, change):
    tensors = load_file(folder / SINGLE)
    change(tensors)
    save_file(tensors, folder / SINGLE)


def split(folder, **entries):
    """Two files and an index in place of the single file; `entries` overwrite the index."""
    tensors = load_file(folder / SINGLE)
    (folder / SINGLE).unlink()
    index = {}
    for i in range(2):
        names = sorted(tensors)[i::2]
        save_file({name: tensors[name] for name in names}, folder / f"part-{i}.safetensors")
        index |= dict.fromkeys(names, f"part-{i}.safetensors")
    index |= entries
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))


def refused(folder, message):
    with pytest.raises(WeightsError, match=message):
        models.load(folder)


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


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "config.json").unlink(), r"has no config\.json: is it a model folder"),
        (lambda f: (f / "config.json").write_text("{"), "cannot be read as JSON"),
        (lambda f: (f / "config.json").write_text("[" * 100000), "cannot be read as JSON"),
        (lambda f: (f / "config.json").write_bytes(b"\xff\xfe{"), "cannot be read as JSON"),
        (lambda f: (f / "config.json").write_text("[]"), "holds no JSON object"),
        (lambda f: (f / "config.json").write_text(""), "as JSON: it has 0 bytes"),
        (lambda f: (f / SINGLE).unlink(), r"has no model\.safetensors and no .*converted"),
        (
            lambda f: (f / SINGLE).rename(f / "pytorch_model.bin"),
            r"only pickle files \(pytorch_model\.bin\).*from_pretrained\(.*\)\.save_pretrained\(",
        ),
        (lambda f: (f / SINGLE).write_bytes(b""), "is damaged or cut short .it is empty"),
        (lambda f: ((f / SINGLE).unlink(), (f / SINGLE).mkdir()), "is a folder or a device, not"),
        (
            lambda f: ((f / "config.json").unlink(), (f / "config.json").mkdir()),
            "config.json is a folder or a device, not a file",
        ),
        (lambda f: ((f / SINGLE).unlink(), os.mkfifo(f / SINGLE)), "is a folder or a device, not"),
        (lambda f: ((f / SINGLE).unlink(), (f / SINGLE).symlink_to(SINGLE)), "cannot be read"),
    ],
)
def test_a_folder_without_readable_files_is_refused(folder, spoil, message):
    spoil(folder)
    refused(folder, message)


@pytest.mark.parametrize("kept", [3, 8, 200, -8])
def test_a_truncated_file_is_refused(folder, kept):
    path = folder / SINGLE
    path.write_bytes(path.read_bytes()[:kept])
    refused(folder, r"model\.safetensors is damaged or cut short")


def test_a_file_that_shrinks_while_it_is_read_is_refused(folder):
    with LocalFolder(folder) as files:
        place = find_tensors(files)["model.embed_tokens.weight"]
        (folder / SINGLE).write_bytes((folder / SINGLE).read_bytes()[: place.start + 10])
        with pytest.raises(WeightsError, match="became shorter while it was read"):
            Tensor(files, place)[0:4]


@pytest.mark.parametrize("name", ["config.json", SINGLE])
def test_a_file_that_may_not_be_read_is_refused(folder, monkeypatch, name):
    original = os.open

    def deny(path, *args, **kwargs):
        if os.path.basename(path) == name:
            raise PermissionError(13, "Permission denied")
        return original(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", deny)
    refused(folder, f"{name} cannot be read: Permission denied")


def test_a_disk_that_fails_is_told(folder, monkeypatch):
    def fail(*args):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "preadv", fail)
    refused(folder, "config.json cannot be read: Input/output error")


def test_several_files_with_an_index_load_like_one_and_none_may_be_missing(tiny, folder):
    split(folder)
    loaded = models.load(folder)[1]
    np.testing.assert_array_equal(tiny[1]["embed"]["kernel"], loaded["embed"]["kernel"])
    (folder / "part-1.safetensors").unlink()
    refused(folder, r"part-1\.safetensors is missing")


@pytest.mark.parametrize("entry", ["../x.safetensors", "/etc/passwd", "a/b", "a\\b", "..", "", 3])
def test_an_index_that_points_outside_its_folder_is_refused(folder, entry):
    split(folder, **{NORM: entry})
    refused(folder, "points outside its folder")


def test_an_index_that_names_the_wrong_file_is_refused(folder):
    split(folder, another="part-0.safetensors")
    refused(folder, r"looks for 'another' in part-0\.safetensors")


def test_an_index_without_a_map_is_refused(folder):
    (folder / "model.safetensors.index.json").write_text("{}")
    refused(folder, "has no 'weight_map'")


@pytest.mark.parametrize("name", ["config.json", SINGLE])
def test_a_link_out_of_the_folder_is_refused_and_one_within_is_not(folder, tmp_path, name):
    (folder / name).rename(folder / "real")
    (folder / name).symlink_to("real")
    models.load(folder)
    (folder / "real").rename(tmp_path / "real")
    (folder / name).unlink()
    (folder / name).symlink_to("../real")
    refused(folder, f"{name} is a link to .*real, outside its folder")
    (tmp_path / "link").symlink_to(folder)
    (folder / name).unlink()
    (tmp_path / "real").rename(folder / name)
    models.load(tmp_path / "link")


@pytest.mark.parametrize("shared", [False, True])
def test_the_cache_of_the_hub_links_to_its_blobs_but_nowhere_else(folder, tmp_path, shared):
    repository = tmp_path / "hub" / "models--org--name"
    snapshot = repository / "snapshots" / "0123"
    blobs = (tmp_path / "hub" if shared else repository) / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir(parents=True)
    for path in list(folder.iterdir()):
        path.rename(blobs / f"sha-{path.name}")
        target = os.path.relpath(blobs / f"sha-{path.name}", snapshot)
        (snapshot / path.name).symlink_to(target)
    models.load(snapshot)
    (blobs / f"sha-{SINGLE}").rename(tmp_path / "elsewhere")
    (snapshot / SINGLE).unlink()
    (snapshot / SINGLE).symlink_to(tmp_path / "elsewhere")
    refused(snapshot, "outside its folder")


def accepts(path):
    """Whether the safetensors library opens a file, and what it sees in it."""
    try:
        with safe_open(path, "numpy") as file:
            return {n: tuple(file.get_slice(n).get_shape()) for n in file.keys()}
    except (SafetensorError, OSError):
        return None


ENTRY = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}


@pytest.mark.parametrize(
    "header",
    [
        "{}x",
        "[]",
        "[" * 50000,
        json.dumps({"a": 3}),
        json.dumps({"a": {**ENTRY, "dtype": "F31"}}),
        json.dumps({"a": {**ENTRY, "dtype": []}}),
        json.dumps({"a": {**ENTRY, "shape": [2, 4]}}),
        json.dumps({"a": {**ENTRY, "shape": [-2, -3]}}),
        json.dumps({"a": {**ENTRY, "shape": "23"}}),
        json.dumps({"a": {**ENTRY, "shape": [2, 3.0]}}),
        json.dumps({"a": {**ENTRY, "shape": [2**70, 0]}}).replace("24", "0"),
        json.dumps({"a": {**ENTRY, "data_offsets": [24, 0]}}),
        json.dumps({"a": {**ENTRY, "data_offsets": [0, 24, 48]}}),
        json.dumps({"a": {**ENTRY, "data_offsets": [8, 32]}}),
        json.dumps({"a": {**ENTRY, "data_offsets": [0, True]}}),
        json.dumps({"a": {**ENTRY, "data_offsets": None}}),
        json.dumps({"a": ENTRY, "b": ENTRY}),
        json.dumps({"a": ENTRY, "b": {**ENTRY, "data_offsets": [20, 44]}}),
        json.dumps({"a": ENTRY, "b": {**ENTRY, "data_offsets": [24, 48]}}),
    ],
)
def test_a_header_that_lies_is_refused_like_the_library_does(tmp_path, header):
    path, text = tmp_path / SINGLE, header.encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(24))
    with LocalFolder(tmp_path) as files, pytest.raises(WeightsError, match="is damaged"):
        read_header(files, SINGLE)
    assert accepts(path) is None


def test_a_header_that_names_a_tensor_twice_is_refused(tmp_path):
    twice = json.dumps({"a": ENTRY})[:-1] + ", " + json.dumps({"a": ENTRY})[1:]
    data = len(twice).to_bytes(8, "little") + twice.encode() + bytes(24)
    (tmp_path / SINGLE).write_bytes(data)
    with LocalFolder(tmp_path) as files, pytest.raises(WeightsError, match="stands there twice"):
        read_header(files, SINGLE)


@pytest.mark.parametrize("length", [0, 1, 2**31, 2**63, 2**64 - 1])
def test_a_header_length_that_lies_is_refused(folder, length):
    data = (folder / SINGLE).read_bytes()
    (folder / SINGLE).write_bytes(length.to_bytes(8, "little") + data[8:])
    refused(folder, "is damaged or cut short")


@settings(max_examples=200, deadline=None)
@given(
    place=st.integers(0, 200), byte=st.integers(0, 255), cut=st.integers(0, 60), more=st.booleans()
)
def test_what_the_library_refuses_is_never_accepted(tmp_path_factory, place, byte, cut, more):
    header, _ = make_header({"a": ("F32", (2, 3)), "b": ("BF16", (4,)), "c": ("U8", (0, 5))})
    data = bytearray(header + bytes(32))
    if place < len(data):
        data[place] = byte
    data = data[: len(data) - cut] if cut < 20 else data + bytes(3 * more)
    path = tmp_path_factory.mktemp("fuzz") / SINGLE
    path.write_bytes(data)
    with LocalFolder(path.parent) as files:
        try:
            found = {name: place.shape for name, place in read_header(files, SINGLE).items()}
        except WeightsError:
            found = None
    assert found is None or found == accepts(path)
