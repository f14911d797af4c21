# SPDX-License-Identifier: Apache-2.0
"""The table of model families that weights can be read from and written to, one file each."""

from unilogit_jax.errors import WeightsError, suggest
from unilogit_jax.imports import import_name
from unilogit_jax.models.families import (
    gemma,
    gemma2,
    gemma3,
    gpt2,
    gpt_neo,
    gpt_neox,
    llama,
    mistral,
    olmo2,
    phi,
    phi3,
    qwen2,
    qwen3,
)
from unilogit_jax.models.weight_map import Family

FAMILIES: dict[str, Family] = {
    "llama": llama.FAMILY,
    "mistral": mistral.FAMILY,
    "qwen2": qwen2.FAMILY,
    "qwen3": qwen3.FAMILY,
    "gemma": gemma.FAMILY,
    "gemma2": gemma2.FAMILY,
    "gemma3_text": gemma3.FAMILY,
    "gemma3": gemma3.NESTED,
    "phi": phi.FAMILY,
    "phi3": phi3.FAMILY,
    "olmo2": olmo2.FAMILY,
    "gpt2": gpt2.FAMILY,
    "gpt_neo": gpt_neo.FAMILY,
    "gpt_neox": gpt_neox.FAMILY,
}
"""Hugging Face `model_type` -> family."""


def find_family(name: str) -> Family:
    """A family of the table, or one of your own as "my_package.my_file:FAMILY".

    Raises:
      WeightsError: there is none of that name; the message lists those there are.

    Example:
      >>> find_family("unilogit_jax.models.families.llama:FAMILY") is FAMILIES["llama"]
      True

    """
    if name in FAMILIES:
        return FAMILIES[name]
    if ":" not in name:
        known = ", ".join(FAMILIES)
        raise WeightsError(
            f"model_type {name!r:.60} is not supported; known: {known}."
            f"{suggest(name[:60], FAMILIES)}"
        )
    try:
        found = import_name(name)
    except ImportError as error:
        raise WeightsError(f"the family '{name}' cannot be imported: {error}.") from error
    if not isinstance(found, Family):
        raise WeightsError(f"'{name}' is a {type(found).__name__}, not a Family.")
    return found
