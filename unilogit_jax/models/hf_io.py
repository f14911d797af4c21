# SPDX-License-Identifier: Apache-2.0
"""Hugging Face folders: config.json and safetensors files, checked before anything is read."""

import json
import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from unilogit_jax.errors import WeightsError
from unilogit_jax.models.folders import Folder

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
HEADER_BYTES = 100_000_000
"""Longest header that the safetensors library accepts."""
FLOATS = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
}
"""Stored types that weights may have."""
BITS = {
    **{"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8},
    **{"F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16},
    **{"F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32},
    **{"C64": 64, "F64": 64, "I64": 64, "U64": 64},
}
"""Size of an element of every type that the format knows."""


class Place(NamedTuple):
    """Where a tensor lies, and what it is."""

    file: str
    start: int
    """Its first byte in the file."""
    kind: str
    """Its type, in the words of safetensors."""
    shape: tuple[int, ...]


Files = dict[str, Place]
"""Name that a tensor is asked for by -> where it lies."""


class Tensor:
    """A stored vector or matrix; slicing it reads that part of the file."""

    def __init__(self, folder: Folder, place: Place):
        self._folder = folder
        self._place = place

    def __getitem__(self, index: slice | tuple[slice, ...]) -> np.ndarray:
        """Rows, or rows and columns, as a new array."""
        file, begin, kind, shape = self._place
        dtype = FLOATS[kind]
        given = index if isinstance(index, tuple) else (index,)
        bounds = [part.indices(n)[:2] for part, n in zip(given, shape, strict=False)]
        first, last = bounds[0]
        left, right = (dtype.itemsize * n for n in (bounds[1:] or [(0, math.prod(shape[1:]))])[0])
        stride = dtype.itemsize * math.prod(shape[1:])
        if right - left < stride and not self._folder.whole_rows:
            out = np.empty((last - first, right - left), np.uint8)
            for row, target in enumerate(out, start=first):
                self._folder.read(file, begin + row * stride + left, target)
        else:
            out = np.empty((last - first, stride), np.uint8)
            self._folder.read(file, begin + first * stride, out.reshape(-1))
            out = out[:, left:right]
        return out.view(dtype).reshape(last - first, *([-1] if shape[1:] else []))


def read_json(folder: Folder, name: str) -> dict[str, Any]:
    """A JSON object from a file of a folder.

    Raises:
      WeightsError: no such file, or no JSON object in it.

    """
    if not folder.has(name):
        raise WeightsError(f"{folder} has no {name}: is it a model folder?")
    size = folder.size(name)
    if not 0 < size <= HEADER_BYTES:
        raise WeightsError(f"{folder}/{name} cannot be read as JSON: it has {size} bytes.")
    try:
        value = json.loads(_bytes(folder, name, 0, size))
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{folder}/{name} cannot be read as JSON: {error}.") from None
    if not isinstance(value, dict):
        raise WeightsError(f"{folder}/{name} holds no JSON object.")
    return value


def find_tensors(folder: Folder) -> Files:
    """Every tensor's name and place, from the index or from the single file.

    Args:
      folder: has model.safetensors, or an index and several files.

    Returns:
      Name -> place, as it stands in the headers of the files, all of which have been checked.

    Raises:
      WeightsError: no safetensors, a damaged file, or an index that does not fit its files.

    """
    if not folder.has(INDEX):
        if not folder.has(SINGLE):
            raise WeightsError(_nothing_to_read(folder))
        return read_header(folder, SINGLE)
    index = read_index(folder)
    headers = {file: read_header(folder, file) for file in sorted(set(index.values()))}
    for name, file in index.items():
        if name not in headers[file]:
            raise WeightsError(f"{folder}/{INDEX} looks for '{name}' in {file}, which lacks it.")
    return {name: headers[file][name] for name, file in index.items()}


def read_index(folder: Folder) -> dict[str, str]:
    """Name of a tensor -> name of its file, of a model in several files.

    Raises:
      WeightsError: the index is damaged, or names something else than files of its folder.

    """
    index = read_json(folder, INDEX).get("weight_map")
    if not isinstance(index, dict):
        raise WeightsError(f"{folder}/{INDEX} has no 'weight_map'.")
    for entry in index.values():
        if not isinstance(entry, str) or not re.fullmatch(r"\w[\w.+-]*", entry):
            raise WeightsError(f"{folder}/{INDEX} points outside its folder: {entry!r}.")
    return index


def read_header(folder: Folder, file: str) -> Files:
    """The tensors of a safetensors file; its data are not read.

    Raises:
      WeightsError: it is damaged: everything is checked that the safetensors library checks.

    """
    where, size = f"{folder}/{file}", folder.size(file)
    try:
        length = int.from_bytes(_bytes(folder, file, 0, 8), "little") if size >= 8 else 0
        if not 2 <= length <= min(size - 8, HEADER_BYTES):
            raise ValueError(f"{size} bytes, {length} of them header" if size else "it is empty")
        text = _bytes(folder, file, 8, length).decode()
        header = json.loads(text, object_pairs_hook=_without_repetition)
        if not isinstance(header, dict):
            raise ValueError("its header is no JSON object")
        header.pop("__metadata__", None)
        ends = {name: _check_entry(name, entry) for name, entry in header.items()}
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{where} is damaged or cut short ({error}): fetch it again.") from None
    place = 0
    for start, end in sorted(ends.values()):
        if start != place:
            raise WeightsError(f"{where} is damaged: its tensors overlap or leave a hole.")
        place = end
    if 8 + length + place != size:
        raise WeightsError(
            f"{where} is damaged or cut short ({size} bytes instead of {8 + length + place}): "
            "fetch it again."
        )
    return {
        name: Place(file, 8 + length + ends[name][0], entry["dtype"], tuple(entry["shape"]))
        for name, entry in header.items()
    }


def make_header(tensors: Mapping[str, tuple[str, tuple[int, ...]]]) -> tuple[bytes, dict[str, int]]:
    """The beginning of a safetensors file, and where the data of each tensor go in the file.

    Args:
      tensors: name -> (type, shape), in the order of the data.

    Example:
      >>> header, starts = make_header({"a": ("F32", (2,)), "b": ("BF16", (3,))})
      >>> len(header) % 8, starts["b"] - starts["a"]
      (0, 8)

    """
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, (kind, shape) in tensors.items():
        start, end = end, end + BITS[kind] * math.prod(shape) // 8
        entries[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    begin = 8 + len(text)
    starts = {name: begin + entries[name]["data_offsets"][0] for name in tensors}
    return len(text).to_bytes(8, "little") + text, starts


def check_tensors(files: Files, shapes: dict[str, tuple[int, ...]], folder: Folder) -> None:
    """Names, shapes and types of all tensors against what the model needs.

    Args:
      files: name -> place, as `find_tensors` gives it.
      shapes: name -> shape of every tensor that the model needs.
      folder: for the messages.

    Raises:
      WeightsError: a tensor is missing, unexpected, of another shape or no floating-point one.

    """
    for verb, names in (
        ("lacks", shapes.keys() - files.keys()),
        ("has unexpected", files.keys() - shapes.keys()),
    ):
        if names:
            listed = ", ".join(sorted(names)[:3]) + (", ..." if len(names) > 3 else "")
            raise WeightsError(f"{folder} {verb} {len(names)} tensor(s): {listed}.")
    for name, shape in sorted(shapes.items()):
        place = files[name]
        if place.shape != shape:
            raise WeightsError(
                f"{folder}/{place.file}: '{name}' has shape {list(place.shape)}, config.json asks "
                f"for {list(shape)}."
            )
        if place.kind not in FLOATS:
            raise WeightsError(
                f"{folder}/{place.file}: '{name}' has type {place.kind}; known: "
                f"{', '.join(FLOATS)}. Quantised weights must be converted first."
            )


def _bytes(folder: Folder, file: str, start: int, count: int) -> bytes:
    out = np.empty(count, np.uint8)
    folder.read(file, start, out)
    return out.tobytes()


def _check_entry(name: str, entry: Any) -> tuple[int, int]:
    """Where a tensor's data begin and end, behind the header."""
    if not isinstance(entry, dict):
        raise ValueError(f"'{name}' is no JSON object")
    kind: Any = entry.get("dtype")
    shape: Any = entry.get("shape")
    offsets: Any = entry.get("data_offsets")
    if not isinstance(kind, str) or kind not in BITS:
        raise ValueError(f"'{name}' has the unknown type {kind!r}")
    for numbers in (shape, offsets):
        if not isinstance(numbers, list) or any(type(n) is not int or n < 0 for n in numbers):
            raise ValueError(f"'{name}' has shape {shape!r} and data_offsets {offsets!r}")
    if len(offsets) != 2 or 8 * (offsets[1] - offsets[0]) != BITS[kind] * math.prod(shape):
        raise ValueError(f"'{name}' of type {kind}, shape {shape} lies at {offsets}")
    return offsets[0], offsets[1]


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a name stands there twice")
    return dict(pairs)


def _nothing_to_read(folder: Folder) -> str:
    pickles = [name for name in folder.names() if name.endswith((".bin", ".pt", ".pth", ".ckpt"))]
    only = f"has only pickle files ({pickles[0]})" if pickles else f"has no {SINGLE} and no {INDEX}"
    return (
        f"{folder} {only}. Pickles can run code when they are opened and are not read: convert a "
        f"model that you trust to safetensors with transformers, AutoModelForCausalLM"
        f".from_pretrained({str(folder)!r}).save_pretrained('converted')."
    )
