# SPDX-License-Identifier: Apache-2.0
"""The decoder: made from scratch or read from a Hugging Face folder, applied, and written back."""

from unilogit_jax.models.attention import check_kernel as check_kernel
from unilogit_jax.models.build import apply_fn as apply_fn
from unilogit_jax.models.build import init as init
from unilogit_jax.models.build import input_axes as input_axes
from unilogit_jax.models.build import layer_fn as layer_fn
from unilogit_jax.models.build import logical_axes as logical_axes
from unilogit_jax.models.build import param_shapes as param_shapes
from unilogit_jax.models.build import param_shardings as param_shardings
from unilogit_jax.models.build import to_layer as to_layer
from unilogit_jax.models.cache import Cache as Cache
from unilogit_jax.models.cache import make_cache as make_cache
from unilogit_jax.models.config import DecoderConfig as DecoderConfig
from unilogit_jax.models.decoder import Decoder as Decoder
from unilogit_jax.models.families import FAMILIES as FAMILIES
from unilogit_jax.models.families import find_family as find_family
from unilogit_jax.models.flops import update_flops as update_flops
from unilogit_jax.models.generate import generate as generate
from unilogit_jax.models.generic import GenericDecoder as GenericDecoder
from unilogit_jax.models.lora import Lora as Lora
from unilogit_jax.models.lora import lora_apply_fn as lora_apply_fn
from unilogit_jax.models.lora import merge_lora as merge_lora
from unilogit_jax.models.peft_io import load_adapter as load_adapter
from unilogit_jax.models.peft_io import save_adapter as save_adapter
from unilogit_jax.models.published import published_config as published_config
from unilogit_jax.models.reading import load as load
from unilogit_jax.models.reading import read_decoder_config as read_decoder_config
from unilogit_jax.models.remote import resolve as resolve
from unilogit_jax.models.rope import Rope as Rope
from unilogit_jax.models.weight_map import Family as Family
from unilogit_jax.models.weight_map import Fused as Fused
from unilogit_jax.models.weight_map import weight_table as weight_table
from unilogit_jax.models.writing import config_json as config_json
from unilogit_jax.models.writing import hf_tensors as hf_tensors
from unilogit_jax.models.writing import save as save
