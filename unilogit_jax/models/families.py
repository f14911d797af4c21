# SPDX-License-Identifier: Apache-2.0
"""The table of model families that weights can be read from and written to."""

from unilogit_jax.models import llama
from unilogit_jax.models.weight_map import Family

FAMILIES: dict[str, Family] = {
    "llama": llama.FAMILY,
}
"""Hugging Face `model_type` -> family."""
