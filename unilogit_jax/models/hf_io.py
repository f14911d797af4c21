# SPDX-License-Identifier: Apache-2.0
"""Hugging Face folders: config.json and safetensors files, checked before anything is read."""

import json
import math
import re
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from unilogit_jax.errors import WeightsError
from unilogit_jax.models.folders import Folder
from unilogit_jax.models.header import parse_header
from unilogit_jax.strict_json import without_repetition

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
      WeightsError: no such file, no JSON object in it, or a key twice.

    """
    if not folder.has(name):
        raise WeightsError(f"{folder} has no {name}: is it a model folder?")
    size = folder.size(name)
    if not 0 < size <= HEADER_BYTES:
        raise WeightsError(f"{folder}/{name} cannot be read as JSON: it has {size} bytes.")
    try:
        value = json.loads(_bytes(folder, name, 0, size), object_pairs_hook=without_repetition)
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
            raise WeightsError(
                f"{folder}/{INDEX} looks for {name!r:.120} in {file}, which lacks it."
            )
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
        if not isinstance(entry, str) or not re.fullmatch(r"\w[\w.+-]{0,200}", entry):
            raise WeightsError(
                f"{folder}/{INDEX} points outside its folder, or at no file: {entry!r:.120}."
            )
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
        entries = parse_header(_bytes(folder, file, 8, length).decode(), size - 8 - length)
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{where} is damaged or cut short ({error}): fetch it again.") from None
    return {
        name: Place(file, 8 + length + entry.start, entry.kind, entry.shape)
        for name, entry in entries.items()
    }


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
            # Names of strangers: on one line, however long.
            listed = ", ".join(f"{name!r:.120}".strip("'\"") for name in sorted(names)[:3])
            listed += ", ..." if len(names) > 3 else ""
            raise WeightsError(f"{folder} {verb} {len(names)} tensor(s): {listed}.")
    for name, shape in sorted(shapes.items()):
        place = files[name]
        if place.shape != shape:
            raise WeightsError(
                f"{folder}/{place.file}: '{name}' has shape {list(place.shape)!s:.60}, config.json "
                f"asks for {list(shape)}."
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


def _nothing_to_read(folder: Folder) -> str:
    pickles = [name for name in folder.names() if name.endswith((".bin", ".pt", ".pth", ".ckpt"))]
    only = f"has only pickle files ({pickles[0]})" if pickles else f"has no {SINGLE} and no {INDEX}"
    return (
        f"{folder} {only}. Pickles can run code when they are opened and are not read: convert a "
        f"model that you trust to safetensors with transformers, AutoModelForCausalLM"
        f".from_pretrained({str(folder)!r}).save_pretrained('converted')."
    )
