# SPDX-License-Identifier: Apache-2.0
"""Models from and to Hugging Face folders."""

import dataclasses
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from unilogit_jax.errors import ConfigError, WeightsError, suggest
from unilogit_jax.models.build import Params, param_shardings
from unilogit_jax.models.config import DTYPES, DecoderConfig
from unilogit_jax.models.decoder import Decoder
from unilogit_jax.models.families import FAMILIES
from unilogit_jax.models.hf_io import (
    SINGLE,
    check_tensors,
    find_tensors,
    read_json,
    tensor_reader,
)
from unilogit_jax.models.weight_map import Weight


def load(
    folder: str | Path,
    *,
    dtype: str = "float32",
    param_dtype: str = "float32",
    mesh: Mesh | None = None,
) -> tuple[Decoder, Params]:
    """A decoder and its parameters from a Hugging Face folder.

    Args:
      folder: holds config.json and safetensors, in the dialect of transformers 4.x or 5.x.
      dtype: type of the computation.
      param_dtype: type of the parameters, whatever the files hold.
      mesh: parameters are divided over it; the host holds one stacked parameter at a time.

    Returns:
      (model, params).

    Raises:
      WeightsError: a missing, damaged or unsupported folder.
      ConfigError: an unknown dtype.

    """
    folder = Path(folder)
    _check_dtype("dtype", dtype)
    _check_dtype("param_dtype", param_dtype)
    files = find_tensors(folder)
    config = dataclasses.replace(read_decoder_config(folder), dtype=dtype)
    family = FAMILIES[config.family]
    table = family.weights(config)
    shapes = {name: w.hf_shape for w in table for name in w.names(config.layers)}
    files = {name: path for name, path in files.items() if not name.endswith(family.ignored)}
    read = tensor_reader(files)
    if config.tie_embeddings:
        _drop_copied_head(files, table, folder)
    check_tensors(files, shapes, folder)

    model = Decoder(config, mesh=mesh)
    shardings = None if mesh is None else param_shardings(model, mesh)
    params: Params = {}
    for weight in table:
        parts = [weight.from_hf(read(name)) for name in weight.names(config.layers)]
        shape = (config.layers, *weight.shape) if weight.stacked else weight.shape
        whole = np.empty(shape, jnp.dtype(param_dtype))
        for place, part in zip(whole if weight.stacked else [whole], parts, strict=True):
            place[...] = part
        *parents, leaf = weight.path
        node = params
        for key in parents:
            node = node.setdefault(key, {})
        target = None if shardings is None else _at(shardings, weight.path)
        node[leaf] = jax.device_put(whole, target)
    return model, params


def read_decoder_config(folder: str | Path) -> DecoderConfig:
    """The decoder that a folder's config.json describes; no weights are read.

    Raises:
      WeightsError: no config.json, or a model that is not supported.

    """
    path = Path(folder) / "config.json"
    hf = read_json(path)
    name = hf.get("model_type")
    if name not in FAMILIES:
        raise WeightsError(
            f"{path}: model_type {name!r} is not supported; known: {', '.join(FAMILIES)}."
            f"{suggest(str(name), FAMILIES)}"
        )
    if hf.get("quantization_config"):
        raise WeightsError(f"{path}: quantised weights (quantization_config) are not supported.")
    try:
        return FAMILIES[name].read_config(hf)
    except (WeightsError, ConfigError) as error:
        raise WeightsError(f"{path}: {error}") from None


def save(
    folder: str | Path,
    model: Decoder,
    params: Params,
    *,
    dtype: str = "float32",
    extra_config: Mapping[str, Any] | None = None,
) -> None:
    """Writes a folder that transformers and other readers of safetensors load.

    The folder appears only when it is complete.

    Args:
      folder: must not exist, or be empty.
      model: the decoder.
      params: its parameters; also sharded ones, if this process can reach all their parts.
      dtype: type of the stored tensors.
      extra_config: further keys of config.json, such as bos_token_id; they win over ours.

    Raises:
      WeightsError: the folder is not empty, or cannot be written.
      ConfigError: an unknown dtype.

    """
    from safetensors.numpy import save_file

    folder = Path(folder)
    _check_dtype("dtype", dtype)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise WeightsError(f"{folder} exists and is not empty: choose another folder or remove it.")
    config = FAMILIES[model.config.family].write_config(model.config)
    config |= {"dtype": dtype, **(extra_config or {})}
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        part.mkdir(parents=True)
        _write_json(part / "config.json", config)
        ids = ("bos_token_id", "eos_token_id", "pad_token_id")
        generation = {key: config[key] for key in ids if key in config}
        _write_json(part / "generation_config.json", {"_from_model_config": True, **generation})
        tensors = dict(hf_tensors(model, params, dtype=dtype))
        save_file(tensors, part / SINGLE, metadata={"format": "pt"})
        # safetensors makes its file readable by the owner only, whatever the umask says.
        (part / SINGLE).chmod((part / "config.json").stat().st_mode)
        os.replace(part, folder)
    except OSError as error:
        raise WeightsError(f"{folder} cannot be written: {error}.") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def hf_tensors(
    model: Decoder, params: Params, *, dtype: str = "float32"
) -> Iterator[tuple[str, np.ndarray]]:
    """The parameters (or any tree like them, gradients say) under their Hugging Face names."""
    layers = model.config.layers
    for weight in FAMILIES[model.config.family].weights(model.config):
        array = np.asarray(_at(params, weight.path))
        parts = array if weight.stacked else [array]
        for name, part in zip(weight.names(layers), parts, strict=True):
            yield name, np.ascontiguousarray(weight.to_hf(part).astype(jnp.dtype(dtype)))


def _drop_copied_head(files: dict[str, Path], table: list[Weight], folder: Path) -> None:
    """Some files of tied models hold the head once more; it must then be the embedding."""
    name = "lm_head.weight"
    embedding = next(w.name for w in table if w.path == ("embed", "kernel"))
    if name not in files or embedding not in files:
        return
    read = tensor_reader(files)
    if not np.array_equal(read(name), read(embedding)):
        raise WeightsError(
            f"{folder}: config.json ties the head to the embedding, but '{name}' differs from "
            f"'{embedding}'. Set tie_word_embeddings to false to use it."
        )
    del files[name]


def _at(tree: Params, path: tuple[str, ...]) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def _check_dtype(field: str, value: str) -> None:
    if value not in DTYPES:
        raise ConfigError(f"{field} '{value}' is unknown; known: {', '.join(DTYPES)}.")


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
