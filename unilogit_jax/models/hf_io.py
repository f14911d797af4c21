# SPDX-License-Identifier: Apache-2.0
"""Hugging Face folders: config.json and safetensors files, checked before anything is read."""

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

# safetensors knows bfloat16 in NumPy only once ml_dtypes has registered it.
import ml_dtypes  # noqa: F401
from safetensors import SafetensorError, safe_open

from unilogit_jax.errors import WeightsError

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
FLOATS = ("F64", "F32", "F16", "BF16")


class Place(NamedTuple):
    """Where a tensor lies."""

    path: Path
    name: str
    """Its name in the file."""


Files = dict[str, Place]
"""Name that a tensor is asked for by -> where it lies."""


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
      WeightsError: no such file, or no JSON object in it.

    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise WeightsError(f"{path.parent} has no {path.name}: is it a model folder?") from None
    except (ValueError, OSError) as error:
        raise WeightsError(f"{path} cannot be read as JSON: {error}.") from None
    if not isinstance(value, dict):
        raise WeightsError(f"{path} holds no JSON object.")
    return value


def find_tensors(folder: Path) -> Files:
    """Every tensor's name and place, from the index or from the single file.

    Args:
      folder: a folder with model.safetensors, or with an index and several files.

    Returns:
      Name -> place; each tensor has been seen in its file's header.

    Raises:
      WeightsError: no safetensors, a damaged file, or an index that does not fit its files.

    """
    if not folder.is_dir():
        raise WeightsError(f"{folder} is no folder: give the folder that holds config.json.")
    if not (folder / INDEX).exists():
        single = folder / SINGLE
        if not single.exists():
            raise WeightsError(_nothing_to_read(folder))
        with open_tensors(single) as file:
            return {name: Place(single, name) for name in file.keys()}
    index = read_json(folder / INDEX).get("weight_map")
    if not isinstance(index, dict):
        raise WeightsError(f"{folder / INDEX} has no 'weight_map'.")
    files = {name: Place(_inside(folder, entry), name) for name, entry in index.items()}
    for path in sorted({place.path for place in files.values()}):
        with open_tensors(path) as file:
            held = set(file.keys())
        for name, place in files.items():
            if place.path == path and name not in held:
                raise WeightsError(
                    f"{folder / INDEX} looks for '{name}' in {path.name}, which lacks it."
                )
    return files


def check_tensors(files: Files, shapes: dict[str, tuple[int, ...]], folder: Path) -> None:
    """Names, shapes and types of all tensors against what the model needs, from the headers alone.

    Args:
      files: name -> place, as `find_tensors` gives it.
      shapes: name -> shape of every tensor that the model needs.
      folder: for the messages.

    Raises:
      WeightsError: a tensor is missing, unexpected, of another shape or no floating-point one.

    """
    _same_names("lacks", shapes.keys() - files.keys(), folder)
    _same_names("has unexpected", files.keys() - shapes.keys(), folder)
    for path in sorted({place.path for place in files.values()}):
        with open_tensors(path) as file:
            for name in sorted(shapes):
                if files[name].path != path:
                    continue
                part = file.get_slice(files[name].name)
                shape, kind = tuple(part.get_shape()), part.get_dtype()
                if shape != shapes[name]:
                    raise WeightsError(
                        f"{path}: '{name}' has shape {list(shape)}, config.json asks for "
                        f"{list(shapes[name])}."
                    )
                if kind not in FLOATS:
                    raise WeightsError(
                        f"{path}: '{name}' has type {kind}; known: {', '.join(FLOATS)}. "
                        "Quantised weights must be converted first."
                    )


@contextmanager
def open_tensors(path: Path) -> Iterator[Any]:
    """An open safetensors file; its tensors are read one by one.

    Raises:
      WeightsError: missing or damaged.

    """
    if not path.exists():
        raise WeightsError(f"{path} is missing: the download may be incomplete.")
    try:
        with safe_open(path, framework="numpy") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is damaged or cut short ({error}): fetch it again.") from None


class Reader:
    """Slices of tensors by name; its files are open for as long as it is entered."""

    def __init__(self, files: Files):
        self._files = files
        self._stack = ExitStack()
        self._open: dict[Path, Any] = {}

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *error: object) -> None:
        self._open.clear()
        self._stack.close()

    def __getitem__(self, name: str) -> Any:
        """Something that reads parts of the tensor when it is sliced."""
        path, stored = self._files[name]
        if path not in self._open:
            self._open[path] = self._stack.enter_context(open_tensors(path))
        return self._open[path].get_slice(stored)


def _inside(folder: Path, entry: Any) -> Path:
    """A plain file name; anything else could make us open files that are not the model's."""
    if not isinstance(entry, str) or not re.fullmatch(r"\w[\w.+-]*", entry):
        raise WeightsError(f"{folder / INDEX} points outside its folder: {entry!r}.")
    return folder / entry


def _nothing_to_read(folder: Path) -> str:
    pickles = [p.name for kind in ("*.bin", "*.pt", "*.pth", "*.ckpt") for p in folder.glob(kind)]
    if pickles:
        return (
            f"{folder} has only pickle files ({sorted(pickles)[0]}), which can run code when "
            "opened: convert them to safetensors first."
        )
    return f"{folder} has no {SINGLE} and no {INDEX}."


def _same_names(verb: str, names: set[str], folder: Path) -> None:
    if names:
        listed = ", ".join(sorted(names)[:3]) + (", ..." if len(names) > 3 else "")
        raise WeightsError(f"{folder} {verb} {len(names)} tensor(s): {listed}.")
