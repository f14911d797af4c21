# SPDX-License-Identifier: Apache-2.0
"""Adapters to and from the folders of PEFT: adapter_config.json and adapter_model.safetensors."""

import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float

from unilogit_jax.errors import ConfigError, WeightsError
from unilogit_jax.models.blocks import HostArray
from unilogit_jax.models.build import Params, at
from unilogit_jax.models.decoder import Decoder
from unilogit_jax.models.families import find_family
from unilogit_jax.models.folders import Folder, open_folder
from unilogit_jax.models.hf_io import Files, Tensor, check_tensors, read_header, read_json
from unilogit_jax.models.lora import Lora
from unilogit_jax.models.new_folder import check_empty, complete_folder
from unilogit_jax.models.weight_map import Fused, Weight, weight_table
from unilogit_jax.paths import AnyPath, to_path

CONFIG = "adapter_config.json"
TENSORS = "adapter_model.safetensors"
PICKLE = "adapter_model.bin"
PREFIX = "base_model.model."
"""What PEFT puts before the base model's own names."""

MOST = 1e38
"""Larger numbers are no float32."""
MERGE_THERE = "merge the adapter into its base with peft and load the result"

WITHOUT_EFFECT = frozenset(
    "peft_type task_type peft_version auto_mapping inference_mode base_model_name_or_path revision "
    "target_modules exclude_modules layers_pattern r lora_alpha use_rslora lora_dropout "
    "fan_in_fan_out megatron_core qalora_group_size eva_config".split()
)
"""Keys that are read here, or say nothing that a finished adapter's tensors do not."""

NEUTRAL = {"bias": ("none",), "init_lora_weights": (True, "gaussian", "eva", "orthogonal")}
"""Values that mean plain LoRA; other ways to begin change the base weights as well."""


def save_adapter(
    folder: str | AnyPath, model: Decoder, adapters: Params, lora: Lora, *, base_name: str
) -> None:
    """Writes a folder that PEFT loads onto the base model in transformers.

    The folder appears only when it is complete. With several processes all must call this; the
    first one writes.

    Args:
      folder: must not exist, or be empty.
      model: the decoder that is adapted.
      adapters: the factors; sharded ones are gathered one by one.
      lora: what they were made with.
      base_name: folder or Hub name of the base model, for readers of the adapter.

    Raises:
      ConfigError: adapters of another model or `lora`, or of a layer that the files of the base
        keep together with others.
      WeightsError: the folder is not empty, or cannot be written.

    Example:
      >>> import tempfile
      >>> from unilogit_jax import models
      >>> model = models.Decoder(models.DecoderConfig.scratch(vocab_size=16, width=8, heads=2))
      >>> lora = Lora(rank=2)
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     save_adapter(folder, model, lora.init(model, jax.random.key(0)), lora, base_name="b")
      ...     load_adapter(folder, model)[0].targets
      ('layers.attn.q_proj', 'layers.attn.v_proj')

    """
    folder = to_path(folder)
    config = _config(model, lora, base_name)
    tensors = dict(adapter_tensors(model, adapters, lora))
    check_empty(folder)
    if jax.process_index() == 0:
        _write(folder, config, tensors)


def load_adapter(
    folder: str | Path, model: Decoder, *, mesh: Mesh | None = None
) -> tuple[Lora, Params]:
    """An adapter that PEFT or `save_adapter` wrote.

    Args:
      folder: holds adapter_config.json and adapter_model.safetensors.
      model: the decoder of its base.
      mesh: the factors are divided over it.

    Returns:
      (lora, adapters), the factors in float32. PEFT's lora_dropout is not among them.

    Raises:
      WeightsError: a missing or damaged folder, another kind of adapter or another base.

    """
    with open_folder(Path(folder)) as source:
        rank, alpha = _read_config(source)
        if source.has(PICKLE) and not source.has(TENSORS):
            raise WeightsError(
                f"{source} has a pickle file ({PICKLE}), which can run code when opened: save the "
                "adapter as safetensors first."
            )
        files = read_header(source, TENSORS)
        table, targets = _find(files, model, rank, source)
        lora = Lora(rank=rank, alpha=alpha, targets=targets)

        def read(path: Any, _: Any, where: Any = None) -> jax.Array:
            weight = table[tuple(key.key for key in path)]
            tensors = [Tensor(source, files[name]) for name in weight.names(model.config.layers)]
            return jax.device_put(np.stack(list(map(weight.read, tensors)), dtype="float32"), where)

        trees = [lora.shapes(model)] + ([] if mesh is None else [lora.shardings(model, mesh)])
        return lora, jax.tree_util.tree_map_with_path(read, *trees)


def adapter_tensors(
    model: Decoder, adapters: Params, lora: Lora
) -> Iterator[tuple[str, Float[np.ndarray, "rows columns"]]]:
    """The adapters (or any tree like them, gradients say) under PEFT's names, in float32.

    Raises:
      ConfigError: as in `save_adapter`.

    """
    wanted = jax.tree.map(lambda leaf: leaf.shape, lora.shapes(model))
    if jax.tree.map(jnp.shape, adapters) != wanted:
        raise ConfigError(
            "the adapters do not fit: rank, targets or model differ from what they were made with."
        )
    names, targets = find_family(model.config.family).names, _targets(model, lora)
    for target in sorted(targets):
        entry = names[target]
        if isinstance(entry, Fused):
            raise ConfigError(
                f"'{target}' is a part of '{entry.name.rpartition('.')[2]}' in the files of "
                f"{model.config.family}, which PEFT adapts as a whole only: merge the adapters "
                "into the weights and save those."
            )
    for weight in _table(model, lora.rank):
        if ".".join(weight.path[:-1]) in targets:
            layers = HostArray(at(adapters, weight.path)).rows(0, model.config.layers)
            for name, array in zip(weight.names(len(layers)), layers, strict=True):
                tensor = np.empty(weight.hf_shape, np.float32)
                weight.write(array, tensor)
                yield name, tensor


def _table(model: Decoder, rank: int) -> list[Weight]:
    """The factors of every linear layer that has a stored tensor to itself."""
    family, table = find_family(model.config.family), []
    for weight in weight_table(model.config, family):
        *modules, leaf = weight.path
        entry = family.names[".".join(modules)]
        if leaf != "kernel" or not weight.inputs or isinstance(entry, Fused):
            continue
        inputs, outputs = weight.shape[: weight.inputs], weight.shape[weight.inputs :]
        # PEFT's factors are ordinary linear layers, [out, in], also where the base's are not.
        a = dataclasses.replace(
            weight,
            path=(*modules, "a"),
            name=f"{PREFIX}{entry}.lora_A.weight",
            shape=(*inputs, rank),
            stored_rows=rank,
            inputs_first=False,
        )
        b = dataclasses.replace(
            weight,
            path=(*modules, "b"),
            name=f"{PREFIX}{entry}.lora_B.weight",
            shape=(rank, *outputs),
            inputs=1,
            inputs_first=False,
        )
        table += [a, b]
    return table


def _targets(model: Decoder, lora: Lora) -> set[str]:
    """The adapted layers, such as "layers.attn.q_proj"."""
    paths = jax.tree_util.tree_leaves_with_path(lora.shapes(model))
    return {".".join(key.key for key in path[:-1]) for path, _ in paths}


def _config(model: Decoder, lora: Lora, base_name: str) -> dict[str, Any]:
    family = find_family(model.config.family)
    targets = _targets(model, lora)
    tails = {
        ours: theirs.partition("{layer}.")[2]
        for ours, theirs in family.names.items()
        if isinstance(theirs, str)
    }
    others = {tail.rpartition(".")[2] for ours, tail in tails.items() if ours not in targets}
    modules = set()
    for target in targets & tails.keys():
        # The last word, as everyone writes it, unless another layer ends in it too.
        last = tails[target].rpartition(".")[2]
        modules.add(tails[target] if last in others else last)
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_name,
        "r": lora.rank,
        "lora_alpha": int(lora.alpha) if lora.alpha == int(lora.alpha) else lora.alpha,
        "lora_dropout": lora.dropout,
        "target_modules": sorted(modules),
        "bias": "none",
        "fan_in_fan_out": family.inputs_first,
        "inference_mode": True,
    }


def _read_config(folder: Folder) -> tuple[int, float]:
    """Rank and alpha; whatever is more than plain LoRA is refused by name."""
    config, where = read_json(folder, CONFIG), f"{folder}/{CONFIG}"
    if config.get("peft_type") != "LORA":
        raise WeightsError(f"{where}: peft_type must be LORA, got {config.get('peft_type')!r:.60}.")
    for key, value in config.items():
        if value and key not in WITHOUT_EFFECT and value not in NEUTRAL.get(key, ()):
            said = f"{key!r:.60}".strip("'\"")
            raise WeightsError(f"{where}: {said} = {value!r:.60} is not supported: {MERGE_THERE}.")
    rank, alpha = config.get("r", 8), config.get("lora_alpha", 8)
    for key, value, kinds in (("r", rank, int), ("lora_alpha", alpha, (int, float))):
        if isinstance(value, bool) or not isinstance(value, kinds) or not 0 < value < MOST:
            raise WeightsError(f"{where}: {key} must be a number larger than 0, got {value!r:.60}.")
    by_root = config.get("use_rslora") or False
    if not isinstance(by_root, bool):
        raise WeightsError(f"{where}: use_rslora must be true or false, got {by_root!r:.60}.")
    # "Rank-stabilised" (arXiv:2312.03732) divides by the root of the rank.
    return rank, float(alpha * math.sqrt(rank) if by_root else alpha)


def _find(
    files: Files, model: Decoder, rank: int, folder: Folder
) -> tuple[dict[tuple[str, ...], Weight], tuple[str, ...]]:
    """The factors that a folder holds, by their path, and the layers that they adapt."""
    config = model.config
    for entry in find_family(config.family).names.values():
        if isinstance(entry, Fused):
            modules = [f"{PREFIX}{entry.name.format(layer=i)}." for i in range(config.layers)]
            if any(name.startswith(tuple(modules)) for name in files):
                raise WeightsError(
                    f"{folder} adapts '{entry.name.rpartition('.')[2]}', which is "
                    f"{len(entry.order)} layers here: {MERGE_THERE}."
                )
    every = _table(model, rank)
    found = {w.path[:-1] for w in every if not files.keys().isdisjoint(w.names(config.layers))}
    if not found:
        raise WeightsError(
            f"{folder} adapts no linear layer of this {config.family}: is it for another base? Its "
            f"first tensor is {min(files, default='none')!r:.120}."
        )
    table = {weight.path: weight for weight in every if weight.path[:-1] in found}
    shapes = {name: w.hf_shape for w in table.values() for name in w.names(config.layers)}
    check_tensors(files, shapes, folder)
    return table, tuple(sorted(map(".".join, found)))


def _write(folder: AnyPath, config: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
    from safetensors.numpy import save_file

    with complete_folder(folder) as part:
        text = json.dumps(config, indent=2) + "\n"
        (part / CONFIG).write_text(text, encoding="utf-8")
        save_file(tensors, part / TENSORS, metadata={"format": "pt"})
        # safetensors makes its file readable by the owner only, whatever the umask says.
        (part / TENSORS).chmod((part / CONFIG).stat().st_mode)
