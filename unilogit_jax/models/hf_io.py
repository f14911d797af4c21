# SPDX-License-Identifier: Apache-2.0
"""Hugging Face folders: config.json and safetensors files, checked before anything is read."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# safetensors knows bfloat16 in NumPy only once ml_dtypes has registered it.
import ml_dtypes  # noqa: F401
import numpy as np
from safetensors import SafetensorError, safe_open

from unilogit_jax.errors import WeightsError

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
FLOATS = ("F64", "F32", "F16", "BF16")


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


def find_tensors(folder: Path) -> dict[str, Path]:
    """Every tensor's name and the file it lies in, from the index or from the single file.

    Args:
      folder: a folder with model.safetensors, or with an index and several files.

    Returns:
      Name -> file; each tensor has been seen in its file's header.

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
            return dict.fromkeys(file.keys(), single)
    index = read_json(folder / INDEX).get("weight_map")
    if not isinstance(index, dict):
        raise WeightsError(f"{folder / INDEX} has no 'weight_map'.")
    files = {name: _inside(folder, entry) for name, entry in index.items()}
    for path in sorted(set(files.values())):
        with open_tensors(path) as file:
            held = set(file.keys())
        for name, where in files.items():
            if where == path and name not in held:
                raise WeightsError(
                    f"{folder / INDEX} looks for '{name}' in {path.name}, which lacks it."
                )
    return files


def check_tensors(files: dict[str, Path], shapes: dict[str, tuple[int, ...]], folder: Path) -> None:
    """Names, shapes and types of all tensors against what the model needs, from the headers alone.

    Args:
      files: name -> file, as `find_tensors` gives it.
      shapes: name -> shape of every tensor that the model needs.
      folder: for the messages.

    Raises:
      WeightsError: a tensor is missing, unexpected, of another shape or no floating-point one.

    """
    _same_names("lacks", shapes.keys() - files.keys(), folder)
    _same_names("has unexpected", files.keys() - shapes.keys(), folder)
    for path in sorted(set(files.values())):
        with open_tensors(path) as file:
            for name in sorted(shapes):
                if files[name] != path:
                    continue
                part = file.get_slice(name)
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


def tensor_reader(files: dict[str, Path]) -> Callable[[str], np.ndarray]:
    """A function that reads one tensor by its name."""

    def read(name: str) -> np.ndarray:
        with open_tensors(files[name]) as file:
            return file.get_tensor(name)

    return read


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
