# SPDX-License-Identifier: Apache-2.0
"""Models from Hugging Face folders: each process reads what its devices hold, and nothing twice."""

import dataclasses
import json
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, SingleDeviceSharding

from unilogit_jax.errors import ConfigError, WeightsError
from unilogit_jax.models.blocks import CHUNK, WORKERS, Bounds, around, bounds_of, read_parts
from unilogit_jax.models.build import Params, at, param_shardings, put
from unilogit_jax.models.checks import check_name
from unilogit_jax.models.config import CHOICES, DTYPES, DecoderConfig
from unilogit_jax.models.decoder import Decoder
from unilogit_jax.models.families import find_family
from unilogit_jax.models.folders import Folder, open_folder
from unilogit_jax.models.hf_io import (
    FLOATS,
    Files,
    Tensor,
    check_tensors,
    find_tensors,
    read_json,
)
from unilogit_jax.models.remote import resolve
from unilogit_jax.models.weight_map import Family, Weight, weight_table


def load(
    source: str | Path,
    *,
    dtype: str = "float32",
    param_dtype: str = "float32",
    mesh: Mesh | None = None,
    family: str | None = None,
    attention: str | None = None,
    revision: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Decoder, Params]:
    """A decoder and its parameters from a Hugging Face folder, a URL or the Hub.

    Only safetensors are read, and of them only the bytes that the devices of this process hold.
    Beside the parameters made so far, the host holds one of them, the largest first, and a layer.

    Args:
      source: a folder with config.json (in the dialect of transformers 4.x or 5.x) and
        safetensors; a URL such as "gs://bucket/model", of which only ranges are fetched; or the id
        of a model of the Hub, "org/name", which is fetched into its cache.
      dtype: type of the computation.
      param_dtype: type of the parameters, whatever the files hold.
      mesh: parameters are divided over it; None: they all live on the first device.
      family: reads the folder as this family, "my_package.my_file:FAMILY" say, and not as the one
        that its model_type names.
      attention: kernel of attention, "auto", "xla", "splash" or "cudnn"; None: the
        configuration's.
      revision: branch, tag or commit of a model of the Hub; None: its main branch.
      progress: called with the bytes done so far, and of all: first of what the Hub sends, then of
        the parameters that this process makes.

    Returns:
      (model, params).

    Raises:
      WeightsError: nothing is there, or it is damaged or of an unsupported kind.
      ConfigError: an unknown dtype or attention.

    """
    check_name("dtype", dtype, DTYPES)
    check_name("param_dtype", param_dtype, DTYPES)
    if attention is not None:
        check_name("attention", attention, CHOICES["attention"])
    # A Hub model's weights are fetched only once its configuration is known to be readable.
    config = read_decoder_config(source, family=family, revision=revision)
    types = {"dtype": dtype, "param_dtype": param_dtype}
    config = dataclasses.replace(config, **types, attention=attention or config.attention)
    model = Decoder(config, mesh=mesh)
    kind = find_family(config.family)
    table = weight_table(config, kind)
    with open_folder(resolve(source, revision, progress=progress)) as folder:
        files = _own_names(find_tensors(folder), kind)
        if config.tie_embeddings:
            _drop_copied_head(files, kind, folder)
        shapes = {name: w.hf_shape for w in table for name in w.names(config.layers)}
        check_tensors(files, shapes, folder)
        return model, _read_all(model, table, folder, files, jnp.dtype(param_dtype), progress)


def read_decoder_config(
    source: str | Path, *, family: str | None = None, revision: str | None = None
) -> DecoderConfig:
    """The decoder that a config.json describes; no weights are read or fetched.

    Args:
      source: a folder, a URL, or the id of a model of the Hub.
      family: reads it as this family; None: as the one that model_type names.
      revision: branch, tag or commit of a model of the Hub.

    Raises:
      WeightsError: no config.json, or a model that is not supported.

    """
    with open_folder(resolve(source, revision, weights=False)) as folder:
        hf, path = read_json(folder, "config.json"), f"{folder}/config.json"
    if hf.get("quantization_config"):
        raise WeightsError(f"{path}: quantised weights (quantization_config) are not supported.")
    name = str(hf.get("model_type")) if family is None else family
    if family is None and ":" in name:
        raise WeightsError(
            f"{path}: model_type {name!r:.60} is no family's name. Code is run for no file: name "
            "your own yourself, as model.family."
        )
    try:
        config = find_family(name).read_config(hf)
    except (WeightsError, ConfigError) as error:
        raise WeightsError(f"{path}: {error}") from None
    if family is not None:
        config = dataclasses.replace(config, family=family)
    if config.hf_config is not None:
        return config
    return dataclasses.replace(config, hf_config=json.dumps(hf, indent=2))


def _read_all(
    model: Decoder,
    table: list[Weight],
    folder: Folder,
    files: Files,
    dtype: np.dtype,
    progress: Callable[[int, int], None] | None,
) -> Params:
    layers, mesh = model.config.layers, model.mesh
    shardings = None if mesh is None else param_shardings(model, mesh)
    one = SingleDeviceSharding(jax.local_devices()[0])
    jobs = []
    for weight in table:
        shape = (layers, *weight.shape) if weight.stacked else weight.shape
        target = one if shardings is None else at(shardings, weight.path)
        held = target.addressable_devices_indices_map(shape).values()
        # Devices that hold the same part share one entry.
        places = {bounds_of(index, shape) for index in held}
        jobs.append((_volume(around(places)), weight, shape, target, places))
    done, total = 0, sum(job[0] for job in jobs)

    def make(weight: Weight, shape: Any, target: Any, places: set[Bounds]) -> jax.Array:
        nonlocal done
        parts = {p: np.empty([b - a for a, b in p], dtype) for p in sorted(places)}
        tensors = [Tensor(folder, files[name]) for name in weight.names(layers)]
        for count in read_parts(weight, tensors, parts, pool):
            done += count
            if progress is not None:
                progress(done * dtype.itemsize, total * dtype.itemsize)
        return jax.make_array_from_callback(
            shape, target, lambda index: parts[bounds_of(index, shape)]
        )

    params: Params = {}
    with ThreadPoolExecutor(WORKERS) as pool:
        # The largest first: the memory beside the finished parameters is that of the one in work.
        for _, weight, *job in sorted(jobs, key=lambda job: -job[0]):
            put(params, weight.path, jax.block_until_ready(make(weight, *job)))
    return params


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


def _drop_copied_head(files: Files, family: Family, folder: Folder) -> None:
    """Some files of tied models hold the head once more; it must then be the embedding."""
    name, embedding = (f"{family.names[module]}.weight" for module in ("lm_head", "embed"))
    if name not in files or embedding not in files:
        return
    head, embed = files.pop(name), files[embedding]
    # An embedding that cannot be compared is no matrix of weights, and is refused as such.
    if not {head.kind, embed.kind} <= FLOATS.keys() or 0 in embed.shape or len(embed.shape) != 2:
        return
    step = max(1, CHUNK // embed.shape[1])
    blocks = (slice(start, start + step) for start in range(0, embed.shape[0], step))
    if head.shape != embed.shape or not all(
        np.array_equal(Tensor(folder, head)[rows], Tensor(folder, embed)[rows]) for rows in blocks
    ):
        raise WeightsError(
            f"{folder}: config.json ties the head to the embedding, but '{name}' differs from "
            f"'{embedding}'. Set tie_word_embeddings to false to use it."
        )


def _volume(bounds: Bounds) -> int:
    return math.prod(stop - start for start, stop in bounds)
