# SPDX-License-Identifier: Apache-2.0
"""Whatever stands in a header or an index: read as the library reads it, or one short sentence."""

import copy
import json

import pytest
from bad_input import few, trees
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open

from unilogit_jax.errors import WeightsError
from unilogit_jax.models.folders import LocalFolder
from unilogit_jax.models.header import BITS, make_header
from unilogit_jax.models.hf_io import INDEX, SINGLE, Tensor, find_tensors

ENTRY = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
HEADER = {
    "__metadata__": {"format": "pt"},
    "a": ENTRY,
    "b": {"dtype": "BF16", "shape": [4], "data_offsets": [24, 32]},
    "c": {"dtype": "U8", "shape": [0, 5], "data_offsets": [32, 32]},
}
KEYS = ["__metadata__", "a", "b", "dtype", "shape", "data_offsets", "weight_map", "x", ""]
ODD = [
    *(-1, 0, 4, 24, 32, 2**31, 2**62, 2**63, 2**64, 10**40, 1e308, float("nan"), float("inf")),
    *("F32", "BF16", "F31", "x", "\ud800", "a\nb", True, None, [], {}, [24, 0], [0, 24, 48]),
    *([2**40, 2**40, 0], [0, 2**40, 2**40], [2, 3.0], [2, True], [None], "23", {"format": 3}),
]  # fmt: skip
PLACES = [
    *(("a",), ("a", "dtype"), ("a", "shape"), ("b", "data_offsets"), ("c", "shape"), ("a", "x")),
    *(("a", "shape", 0), ("a", "data_offsets", 1), ("__metadata__",), ("__metadata__", "format")),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("model")


def packed(header, data=bytes(32), length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def library(path):
    """What the safetensors library sees in a file; None: it refuses it."""
    try:
        with safe_open(path, "numpy") as file:
            return {n: tuple(file.get_slice(n).get_shape()) for n in file.keys()}
    except (SafetensorError, OSError):
        return None


def seen(folder):
    """What we see in a folder, or what is told of it."""
    with LocalFolder(folder) as files:
        try:
            return {name: place.shape for name, place in find_tensors(files).items()}, ""
        except WeightsError as error:
            said = str(error)
            assert said.isprintable() and len(said) < 500 + len(str(folder))
            return None, said


def agrees(folder, data):
    """Whether a file is read as the library reads it; it may be refused for more reasons."""
    (folder / INDEX).unlink(missing_ok=True)
    (folder / SINGLE).write_bytes(data)
    ours, _ = seen(folder)
    assert ours is None or ours == library(folder / SINGLE)
    return ours is not None


def test_the_file_that_is_spoilt_here_is_a_good_one(folder):
    assert agrees(folder, packed(HEADER))


@few(40)
@given(data=st.binary(max_size=80), length=st.none() | st.integers(0, 2**64 - 1))
def test_any_bytes(folder, data, length):
    agrees(folder, data)
    agrees(folder, packed(data, length=length))


@few(40)
@given(tree=trees(KEYS, odd=ODD, leaves=8), data=st.sampled_from([b"", bytes(32)]))
def test_any_json(folder, tree, data):
    agrees(folder, packed(tree, data))


@pytest.mark.parametrize("path", PLACES, ids=str)
def test_any_value_at_any_key(folder, path):
    for value in ODD:
        header = copy.deepcopy(HEADER)
        *parents, last = path
        place = header
        for key in parents:
            place = place[key]
        place[last] = value
        agrees(folder, packed(header))


@few(60)
@given(place=st.integers(0, 300), byte=st.integers(0, 255), cut=st.integers(-3, 40))
def test_any_byte_changed_and_any_length(folder, place, byte, cut):
    shapes = {"a": ("F32", (2, 3)), "b": ("BF16", (4,)), "c": ("U8", (0, 5))}
    data = bytearray(make_header(shapes)[0] + bytes(32))
    data[place % len(data)] = byte
    agrees(folder, bytes(data[: len(data) - cut] if cut >= 0 else data + bytes(-cut)))


@few(40)
@given(
    kind=st.sampled_from(sorted(BITS)), shape=st.lists(st.sampled_from([0, 1, 2, 3]), max_size=4)
)
def test_any_type_and_shape_that_we_write_is_read(folder, kind, shape):
    count = BITS[kind]
    for n in shape:
        count *= n
    if not count % 8:
        header, starts = make_header({"a": (kind, tuple(shape))})
        assert agrees(folder, header + bytes(count // 8))
        assert starts["a"] == len(header)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({"a": {**ENTRY, "shape": [9] * 100_000}}, "is larger than any file"),
        ({"a": {**ENTRY, "shape": [2**64, 0]}}, "has shape [18446744073709551616, 0]"),
        ({"a" * 10_000: 3}, "is no JSON object"),
        ({"a\n\x1b[31m": 3}, r"'a\n\x1b[31m' is no JSON object"),
        (b'{"a": 1, "a": 2}', "'a' stands there twice"),
        (b'{"a": {"dtype": "F32", "dtype": "F16"}}', "'dtype' stands there twice"),
        (b'{"a": NaN}', "NaN is no number of JSON"),
        (b'{"__metadata__": {"x": 3}}', "its __metadata__ is {'x': 3}, not texts by name"),
        (b'{"\\ud800": 3}', "surrogates not allowed"),
        ({"a": ENTRY, "b": ENTRY}, "overlap or leave a hole"),
        ({"a": ENTRY}, "32 bytes of tensors instead of 24"),
    ],
)
def test_what_is_wrong_is_said(folder, header, words):
    (folder / SINGLE).write_bytes(packed(header))
    assert words in seen(folder)[1]


def index(folder, text, files=("one.safetensors", "two.safetensors")):
    for name in files:
        (folder / name).write_bytes(packed(HEADER))
    (folder / INDEX).write_text(text if isinstance(text, str) else json.dumps(text))
    return seen(folder)


@few(25)
@given(tree=trees(KEYS, odd=[*ODD, "one.safetensors", {"a": "one.safetensors"}], leaves=8))
def test_any_index(folder, tree):
    for whole in (tree, {"weight_map": tree}, {"weight_map": {"a": tree}}):
        found, _ = index(folder, whole)
        assert found is None or found.keys() <= {"a", "b", "c"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"weight_map": {"a": "one.safetensors", "a": "two.safetensors"}}', "'a' stands there tw"),
        ('{"weight_map": {}, "weight_map": {}}', "'weight_map' stands there twice"),
        ('{"weight_map": {"a": "none.safetensors"}}', "none.safetensors is missing"),
        ('{"weight_map": {"z\\n": "one.safetensors"}}', r"looks for 'z\n' in one.safetensors"),
        (json.dumps({"weight_map": {"a": "x" * 5000}}), "or at no file: 'xxx"),
        (json.dumps({"weight_map": {"a": "é" * 200}}), "File name too long"),
        (json.dumps({"weight_map": {"a": "../" * 5000}}), "points outside its folder"),
        ('{"weight_map": {"a": "model.safetensors.index.json"}}', "is damaged or cut short"),
        ('{"weight_map": [["a", "one.safetensors"]]}', "has no 'weight_map'"),
        ("[" * 100_000, "cannot be read as JSON"),
        ('{"weight_map": ' + "9" * 5000 + "}", "cannot be read as JSON"),
    ],
)
def test_what_is_wrong_with_an_index_is_said(folder, text, words):
    assert words in index(folder, text)[1]


def test_an_index_reads_each_tensor_from_the_file_that_it_names(folder):
    assert index(folder, {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}})[0]
    (folder / "two.safetensors").write_bytes(packed(HEADER, bytes(24) + b"\x80\x3f" * 4))
    with LocalFolder(folder) as files:
        places = find_tensors(files)
        assert Tensor(files, places["b"])[0:4].tolist() == [1.0] * 4
        assert Tensor(files, places["a"])[0:2, 0:3].tolist() == [[0.0] * 3] * 2
