# SPDX-License-Identifier: Apache-2.0
"""Shapes of published models, for planning where their weights are not at hand."""

import dataclasses
import json
from functools import cache
from importlib.resources import files
from typing import Any

from unilogit_jax.models.config import DecoderConfig
from unilogit_jax.models.families import find_family

OTHER_SIZES = ("xl", "medium", "large", "small", "mini")
"""What a name goes on with that belongs to a model of another shape."""
SAME_SHAPE = {
    "muse-bench/MUSE-News": "meta-llama/Llama-2-7b-hf",
    "muse-bench/MUSE-Books": "meta-llama/Llama-2-7b-hf",
}
"""Beginning of a name that does not say its shape -> a model of the same one."""


@cache
def published() -> dict[str, dict[str, Any]]:
    """Hub id -> {"parameters": their published number, "config": the figures of config.json}."""
    text = files("unilogit_jax.models").joinpath("published.json").read_text(encoding="utf-8")
    return json.loads(text)


def published_config(name: str, **changes: Any) -> DecoderConfig:
    """The decoder of a published model.

    Args:
      name: an entry of `published()`.
      **changes: fields of the configuration to set, such as `dtype`.

    Example:
      >>> published_config("meta-llama/Llama-3.1-8B").layers
      32

    """
    hf = published()[name]["config"]
    config = find_family(hf["model_type"]).read_config(hf)
    return dataclasses.replace(config, **changes)


def look_like(source: str) -> str | None:
    """The published model that a path or Hub id is named after: finetuned ones keep its shape.

    Example:
      >>> look_like("open-unlearning/tofu_Llama-3.2-1B-Instruct_full")
      'meta-llama/Llama-3.2-1B'
      >>> look_like("runs/my-model") is None
      True

    """
    for start, name in SAME_SHAPE.items():
        if source.startswith(start):
            return name
    asked = _plain(source)

    def fits(name: str) -> bool:
        _, own, after = asked.partition(_plain(name.partition("/")[2]))
        return bool(own) and not after.startswith(OTHER_SIZES)

    found = [name for name in published() if fits(name)]
    # The longest name: "gemma-2-2b" and not "gemma-2b".
    return max(found, key=len, default=None)


def _plain(name: str) -> str:
    """Without marks, a folder's decorations and what does not change a shape."""
    name = name.lower()
    for part in ("-hf", "-pt", "meta-", "-v0.1"):
        name = name.replace(part, "")
    return "".join(c for c in name if c.isalnum())
