# SPDX-License-Identifier: Apache-2.0
"""Models from Hugging Face folders: each device's part is read straight into its stacked array."""

import dataclasses
import functools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, Sharding, SingleDeviceSharding

from unilogit_jax.errors import ConfigError, WeightsError
from unilogit_jax.models.build import Params, param_shardings
from unilogit_jax.models.checks import check_name
from unilogit_jax.models.config import DTYPES, DecoderConfig
from unilogit_jax.models.decoder import Decoder
from unilogit_jax.models.families import find_family
from unilogit_jax.models.hf_io import Files, Reader, check_tensors, find_tensors, read_json
from unilogit_jax.models.weight_map import Family, Index, Weight, weight_table


def load(
    folder: str | Path,
    *,
    dtype: str = "float32",
    param_dtype: str = "float32",
    mesh: Mesh | None = None,
    family: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Decoder, Params]:
    """A decoder and its parameters from a Hugging Face folder.

    Args:
      folder: holds config.json and safetensors, in the dialect of transformers 4.x or 5.x.
      dtype: type of the computation.
      param_dtype: type of the parameters, whatever the files hold.
      mesh: parameters are divided over it; a process reads only what its devices hold.
      family: reads the folder as this family, "my_package.my_file:FAMILY" say, and not as the one
        that its model_type names.
      progress: called with the bytes of parameters made so far, and of all.

    Returns:
      (model, params).

    Raises:
      WeightsError: a missing, damaged or unsupported folder.
      ConfigError: an unknown dtype.

    """
    folder = Path(folder)
    check_name("dtype", dtype, DTYPES)
    check_name("param_dtype", param_dtype, DTYPES)
    files = find_tensors(folder)
    config = dataclasses.replace(read_decoder_config(folder, family=family), dtype=dtype)
    kind = find_family(config.family)
    table = weight_table(config, kind)
    files = _own_names(files, kind)
    if config.tie_embeddings:
        _drop_copied_head(files, kind, folder)
    shapes = {name: w.hf_shape for w in table for name in w.names(config.layers)}
    check_tensors(files, shapes, folder)

    model = Decoder(config, mesh=mesh)
    shardings = None if mesh is None else param_shardings(model, mesh)
    done, total = 0, sum(_size(w, config.layers) for w in table)
    params: Params = {}
    # The largest first: the memory beside the finished parameters is that of the one in work.
    for weight in sorted(table, key=lambda w: -_size(w, config.layers)):
        target = None if shardings is None else at(shardings, weight.path)
        array = _read(weight, files, config.layers, jnp.dtype(param_dtype), target)
        _put(params, weight.path, array)
        done += _size(weight, config.layers)
        if progress is not None:
            itemsize = jnp.dtype(param_dtype).itemsize
            progress(done * itemsize, total * itemsize)
    return model, params


def read_decoder_config(folder: str | Path, *, family: str | None = None) -> DecoderConfig:
    """The decoder that a folder's config.json describes; no weights are read.

    Args:
      folder: holds config.json.
      family: reads it as this family; None: as the one that model_type names.

    Raises:
      WeightsError: no config.json, or a model that is not supported.

    """
    path = Path(folder) / "config.json"
    hf = read_json(path)
    if hf.get("quantization_config"):
        raise WeightsError(f"{path}: quantised weights (quantization_config) are not supported.")
    name = str(hf.get("model_type")) if family is None else family
    try:
        config = find_family(name).read_config(hf)
    except (WeightsError, ConfigError) as error:
        raise WeightsError(f"{path}: {error}") from None
    if family is not None:
        config = dataclasses.replace(config, family=family)
    if config.hf_config is not None:
        return config
    return dataclasses.replace(config, hf_config=json.dumps(hf, indent=2))


def _own_names(files: Files, family: Family) -> Files:
    """The files' tensors by the names of the family's table, without those that are not weights."""
    embedding = f"{family.names['embed']}.weight"
    kept = {
        name: place
        for name, place in files.items()
        if not name.endswith(family.ignored or ("\n",))
        and not name.startswith(family.foreign or ("\n",))
    }
    if embedding in kept:
        return kept
    for pairs in family.aliases:
        renamed = {_renamed(name, pairs): place for name, place in kept.items()}
        if embedding in renamed:
            return renamed
    return kept


def _renamed(name: str, pairs: tuple[tuple[str, str], ...]) -> str:
    for ours, theirs in pairs:
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return name


def _drop_copied_head(files: Files, family: Family, folder: Path) -> None:
    """Some files of tied models hold the head once more; it must then be the embedding."""
    name, embedding = (f"{family.names[module]}.weight" for module in ("lm_head", "embed"))
    if name not in files or embedding not in files:
        return
    with Reader(files) as reader:
        same = np.array_equal(reader[name][:], reader[embedding][:])
    if not same:
        raise WeightsError(
            f"{folder}: config.json ties the head to the embedding, but '{name}' differs from "
            f"'{embedding}'. Set tie_word_embeddings to false to use it."
        )
    del files[name]


def _read(
    weight: Weight, files: Files, layers: int, dtype: np.dtype, target: Sharding | None
) -> jax.Array:
    """One parameter, made on its devices from the parts that each of them holds."""
    shape = (layers, *weight.shape) if weight.stacked else weight.shape
    names = weight.names(layers)
    target = SingleDeviceSharding(jax.devices()[0]) if target is None else target
    with Reader(files) as reader:

        def part(index: Index) -> np.ndarray:
            if not weight.stacked:
                return weight.read(reader[names[0]], index).astype(dtype, copy=False)
            whole = np.empty([s.stop - s.start for s in index], dtype)
            for place, layer in enumerate(range(index[0].start, index[0].stop)):
                whole[place] = weight.read(reader[names[layer]], index[1:])
            return whole

        # Devices that hold the same part ask for it one after the other.
        once = functools.cache(lambda bounds: part(tuple(slice(*pair) for pair in bounds)))
        return jax.make_array_from_callback(
            shape,
            target,
            lambda index: once(
                tuple(s.indices(n)[:2] for s, n in zip(index or (), shape, strict=True))
            ),
        )


def at(tree: Params, path: tuple[str, ...]) -> Any:
    """The entry of a nested dict at a path of keys."""
    for key in path:
        tree = tree[key]
    return tree


def _size(weight: Weight, layers: int) -> int:
    return math.prod(weight.shape) * (layers if weight.stacked else 1)


def _put(params: Params, path: tuple[str, ...], array: jax.Array) -> None:
    for key in path[:-1]:
        params = params.setdefault(key, {})
    params[path[-1]] = array
