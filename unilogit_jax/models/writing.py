# SPDX-License-Identifier: Apache-2.0
"""Models to Hugging Face folders: one stacked parameter at a time, complete or not there at all."""

import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unilogit_jax.errors import ConfigError, WeightsError
from unilogit_jax.models.build import Params
from unilogit_jax.models.checks import check_name
from unilogit_jax.models.config import DTYPES, DecoderConfig
from unilogit_jax.models.decoder import Decoder
from unilogit_jax.models.families import find_family
from unilogit_jax.models.hf_io import INDEX, SINGLE
from unilogit_jax.models.reading import at
from unilogit_jax.models.weight_map import Weight, weight_table

FILE_BYTES = 2 * 1024**3
"""Size that one file of several grows to; a writer needs about so much memory."""

IDS = ("bos_token_id", "eos_token_id", "pad_token_id")


def save(
    folder: str | Path,
    model: Decoder,
    params: Params,
    *,
    dtype: str | None = None,
    extra_config: Mapping[str, Any] | None = None,
    extra_files: Mapping[str, str] | None = None,
    file_bytes: int = FILE_BYTES,
) -> None:
    """Writes a folder that transformers and other readers of safetensors load.

    The folder appears only when it is complete. With several processes all must call this; the
    first one writes.

    Args:
      folder: must not exist, or be empty.
      model: the decoder.
      params: its parameters; sharded ones are gathered one by one.
      dtype: type of the stored tensors; None: that of the folder the model was read from, float32
        for a model made here.
      extra_config: further keys of config.json, such as bos_token_id; they win over ours.
      extra_files: further files of the folder, name -> text.
      file_bytes: tensors are divided into files of about this size.

    Raises:
      WeightsError: the folder is not empty, or cannot be written.
      ConfigError: an unknown dtype, or a family whose config.json cannot be made here.

    """
    folder = Path(folder)
    config = config_json(model.config)
    if dtype is None:
        dtype = config.get("dtype", config.get("torch_dtype"))
        dtype = dtype if dtype in DTYPES else "float32"
    check_name("dtype", dtype, DTYPES)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise WeightsError(f"{folder} exists and is not empty: choose another folder or remove it.")
    config.pop("torch_dtype", None)
    config |= {"dtype": dtype, **(extra_config or {})}
    ids = {key: config[key] for key in IDS if config.get(key) is not None}
    texts = {
        "config.json": _json(config),
        "generation_config.json": _json({"_from_model_config": True, **ids}),
        **(extra_files or {}),
    }
    groups = _files(model.config, jnp.dtype(dtype).itemsize, file_bytes)
    if jax.process_index() != 0:
        for group in groups:
            for weights in group:
                _gather(weights, params)
        return
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        part.mkdir(parents=True)
        for name, text in texts.items():
            (part / name).write_text(text, encoding="utf-8")
        _write_tensors(part, model, params, groups, dtype)
        os.replace(part, folder)
    except OSError as error:
        raise WeightsError(f"{folder} cannot be written: {error}.") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def config_json(config: DecoderConfig) -> dict[str, Any]:
    """The config.json of a decoder: the one it was read from, or its family's.

    Raises:
      ConfigError: it was made here, in a family that only reads.

    """
    if config.hf_config is not None:
        return json.loads(config.hf_config)
    family = find_family(config.family)
    if family.write_config is None:
        raise ConfigError(
            f"a model of the family '{config.family}' can be written only if it was read from a "
            "folder, whose config.json is passed on."
        )
    return family.write_config(config)


def hf_tensors(
    model: Decoder, params: Params, *, dtype: str = "float32"
) -> Iterator[tuple[str, np.ndarray]]:
    """The parameters (or any tree like them, gradients say) under their Hugging Face names."""
    for group in _files(model.config, 1, 1):
        for weights in group:
            yield from _tensors(weights, _gather(weights, params), model.config, dtype).items()


Group = list[list[Weight]]
"""The contents of one file: parameters that share their tensors stand together."""


def _files(config: DecoderConfig, itemsize: int, file_bytes: int) -> list[Group]:
    """All parameters, divided into files."""
    shared: dict[str, list[Weight]] = {}
    for weight in weight_table(config, find_family(config.family)):
        shared.setdefault(weight.name, []).append(weight)
    files: list[Group] = [[]]
    size = 0
    for weights in shared.values():
        count = math.prod(weights[0].hf_shape) * len(weights[0].names(config.layers))
        if files[-1] and size + count * itemsize > file_bytes:
            files.append([])
            size = 0
        files[-1].append(weights)
        size += count * itemsize
    return files


def _write_tensors(
    folder: Path, model: Decoder, params: Params, groups: list[Group], dtype: str
) -> None:
    from safetensors.numpy import save_file

    where: dict[str, str] = {}
    total = 0
    for number, group in enumerate(groups, start=1):
        name = f"model-{number:05d}-of-{len(groups):05d}.safetensors"
        name = SINGLE if len(groups) == 1 else name
        tensors: dict[str, np.ndarray] = {}
        for weights in group:
            tensors |= _tensors(weights, _gather(weights, params), model.config, dtype)
        save_file(tensors, folder / name, metadata={"format": "pt"})
        # safetensors makes its file readable by the owner only, whatever the umask says.
        (folder / name).chmod((folder / "config.json").stat().st_mode)
        where |= dict.fromkeys(tensors, name)
        total += sum(tensor.nbytes for tensor in tensors.values())
    if len(groups) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(where.items()))}
        (folder / INDEX).write_text(_json(index), encoding="utf-8")


def _gather(weights: list[Weight], params: Params) -> list[np.ndarray]:
    """Parameters as whole arrays on this host; every process has to take part."""
    arrays = [at(params, weight.path) for weight in weights]
    if all(getattr(array, "is_fully_addressable", True) for array in arrays):
        return [np.asarray(array) for array in arrays]
    from jax.experimental.multihost_utils import process_allgather

    return [np.asarray(process_allgather(array, tiled=True)) for array in arrays]


def _tensors(
    weights: list[Weight], arrays: list[np.ndarray], config: DecoderConfig, dtype: str
) -> dict[str, np.ndarray]:
    """The stored tensors of parameters that share them."""
    tensors = {}
    for layer, name in enumerate(weights[0].names(config.layers)):
        tensors[name] = np.empty(weights[0].hf_shape, jnp.dtype(dtype))
        for weight, array in zip(weights, arrays, strict=True):
            weight.write(array[layer] if weight.stacked else array, tensors[name])
    return tensors


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=2) + "\n"
