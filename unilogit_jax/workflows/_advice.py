# SPDX-License-Identifier: Apache-2.0
"""What a stage's weights depend on, and what to change where its memory does not suffice."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import jax

from unilogit_jax.config import Experiment, method_name
from unilogit_jax.errors import TrainingError
from unilogit_jax.methods import Method
from unilogit_jax.train.memory import out_of_memory

_SECTIONS = {"finetune": ("model", "data", "finetune"), "unlearn": ("model", "data", "unlearn")}
_FREE = {
    "model": ("remat", "attention"),
    "data": ("dir",),
    "finetune": ("microbatches", "max_skipped"),
    "unlearn": ("microbatches", "max_skipped"),
}
"""Keys that change how a stage is computed, and not what: the resumed run may have others."""


def settings_of(
    experiment: Experiment, section: Literal["finetune", "unlearn"], method: Method
) -> dict[str, Any]:
    """Dotted key -> value, of all keys that the weights of a stage depend on."""
    whole = experiment.model_dump(mode="json")
    trees: dict[str, Any] = {name: whole[name] for name in _SECTIONS[section]}
    trees["output"] = {"seed": experiment.output.seed}
    if section == "unlearn":
        trees["method"] = {**vars(method), "name": method_name(method)}
        trees["lora"] = whole["lora"]
    flat = _flatten(trees)
    free = {f"{name}.{key}" for name, keys in _FREE.items() for key in keys}
    return {key: value for key, value in flat.items() if key not in free}


def memory_advice(experiment: Experiment, section: Literal["finetune", "unlearn"]) -> str:
    """The three keys that decide how much memory a stage needs, with what they are now."""
    training, mesh = getattr(experiment, section), experiment.mesh
    shape = f"data {mesh.data}, fsdp {mesh.fsdp}, tensor {mesh.tensor}"
    return (
        f"Change one of: model.remat (now {experiment.model.remat}; dots saves some activations, "
        f"full most), {section}.microbatches (now {training.microbatches}; a larger divisor of the "
        f"rows), mesh (now {shape}; more devices in fsdp or tensor). Weights and optimizer take "
        f"less with lora, or with model.param_dtype=bfloat16 and {section}.optimizer=adafactor."
    )


@contextmanager
def memory_told(experiment: Experiment, section: Literal["finetune", "unlearn"]) -> Iterator[None]:
    """Answers the end of a device's memory, anywhere inside, with the keys to change."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if (said := out_of_memory(error)) is None:
            raise
        raise TrainingError(
            f"the devices have too little memory ({said}). {memory_advice(experiment, section)} "
            "For evaluation: eval.batch_size."
        ) from error


def _flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict) or (prefix and not tree):
        # Tuples come back from JSON as lists.
        return {prefix: list(tree) if isinstance(tree, tuple) else tree}
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flatten(value, f"{prefix}.{key}" if prefix else key)
    return flat
