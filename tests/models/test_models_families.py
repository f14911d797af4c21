# SPDX-License-Identifier: Apache-2.0
"""Folders as they come: dialects, defaults, old names, images, families of one's own."""

import copy
import json
import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from parity_cases import CASES, VOCABULARY, make, quiet, rows
from safetensors.numpy import load_file, save_file

from unilogit_jax import models
from unilogit_jax.errors import WeightsError
from unilogit_jax.models import families
from unilogit_jax.models.rope import rope_table

torch = pytest.importorskip("torch")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import transformers
    from huggingface_hub.errors import StrictDataclassError
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

pytestmark = pytest.mark.parity
AutoModel: Any = transformers.AutoModelForCausalLM
ALONE = [name for name in models.FAMILIES if name != "gemma3"]
"""All but the one that is gemma3_text in another folder."""
NEEDED = ("vocab_size", "hidden_size", "intermediate_size")
NEEDED += ("num_hidden_layers", "num_attention_heads")
"""Sizes that we do not make up; transformers does."""


@pytest.fixture(scope="module", autouse=True)
def quietly():
    with quiet():
        yield


@pytest.fixture
def read(tmp_path):
    """The decoder that a config.json describes."""

    def read(hf):
        (tmp_path / "config.json").write_text(json.dumps(hf))
        return models.read_decoder_config(tmp_path)

    return read


@pytest.fixture
def folder_of(tmp_path):
    """A case's folder, and its model in transformers."""

    def make_it(name):
        return tmp_path / "source", make(CASES[name], tmp_path / "source")

    return make_it


@pytest.mark.parametrize("family", ALONE)
def test_a_missing_or_null_key_means_what_it_means_in_transformers(family, read):
    kind = transformers.CONFIG_MAPPING[family]
    full = kind().to_dict()
    for key in full.keys() - {"model_type"}:
        missing = {name: value for name, value in full.items() if name != key}
        if key in NEEDED and family not in ("gemma3_text", "gpt2", "gpt_neo"):
            with pytest.raises(WeightsError, match=f"'{key}' must be a whole number, got None"):
                read(missing)
            continue
        for hf in (missing, missing | {key: None}):
            try:
                completed = kind.from_dict(dict(hf)).to_dict()
            except StrictDataclassError:
                assert key in hf, "null where transformers has no null"
                continue
            assert read(hf) == read(completed), key


SMALL: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
YARN = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LONG = {"original_max_position_embeddings": 64}
LONG |= {"short_factor": [1.0] * 6, "long_factor": [2.0] * 6}
PHI = {"partial_rotary_factor": 0.75, "original_max_position_embeddings": 64}
FIRST = {"max_window_layers": 4}
NEO = {"num_layers": 6, "num_heads": 4}
OLD = [
    ("llama", {"rope_theta": 5e5, "rope_scaling": None}),
    ("llama", {"rope_theta": 5e5, "rope_scaling": LLAMA3}),
    ("llama", {"rope_scaling": {"type": "linear", "factor": 2.5}}),
    ("llama", {"rope_scaling": {"type": "dynamic", "factor": 2.0}}),
    ("mistral", {"rope_theta": 1e6, "sliding_window": None}),
    ("qwen2", {"rope_theta": 1e6, "rope_scaling": YARN}),
    ("qwen2", {"use_sliding_window": True, "sliding_window": 5, **FIRST}),
    ("qwen2", {"rope_theta": 1e6, "use_sliding_window": True, "sliding_window": None, **FIRST}),
    ("qwen3", {"rope_theta": 1e6, "use_sliding_window": True, "max_window_layers": 2}),
    ("gemma", {"rope_theta": 5000.0, "hidden_act": "gelu"}),
    ("gemma2", {"rope_theta": 5000.0, "sliding_window": 5}),
    ("gemma3_text", {"rope_theta": 2e6, "rope_local_base_freq": 5000.0}),
    ("gemma3_text", {"rope_scaling": {"rope_type": "linear", "factor": 8.0}}),
    ("gemma3_text", {"sliding_window_pattern": 3}),
    ("phi", {"rope_theta": 5000.0, "partial_rotary_factor": 0.25}),
    ("phi3", {**PHI, "rope_scaling": {"type": "su", **LONG}}),
    ("phi3", {**PHI, "rope_scaling": {"type": "yarn", **LONG}}),
    ("olmo2", {"rope_theta": 5e5}),
    ("gpt_neo", {**NEO, "attention_types": [[["local"], 4], [["global"], 2]]}),
    ("gpt_neox", {"rotary_pct": 0.5, "rotary_emb_base": 5000.0}),
    ("gpt_neox", {"rotary_pct": 1.0, "rope_scaling": {"type": "linear", "factor": 2.0}}),
]


KEYS_OF_4X = ("rope_theta", "rope_scaling", "partial_rotary_factor", "rope_local_base_freq")
KEYS_OF_4X += ("rotary_pct", "rotary_emb_base", "sliding_window_pattern")


@pytest.mark.parametrize(("family", "fields"), OLD)
def test_files_of_4x_mean_what_transformers_rewrites_them_to(family, fields, read):
    kind = transformers.CONFIG_MAPPING[family]
    plain = {"model_type": family, **SMALL, "head_dim": 16}
    old = {**plain, **fields}
    new = kind.from_dict(copy.deepcopy(old)).to_dict()
    assert read(old) == read({key: value for key, value in new.items() if key not in KEYS_OF_4X})
    assert read(old) != read(plain)


ROPES = [
    {"rope_type": "default"},
    {"rope_type": "linear", "factor": 2.5},
    {"rope_type": "dynamic", "factor": 2.0},
    {**LLAMA3, "original_max_position_embeddings": 32},
    LLAMA3,
    {**YARN, "rope_type": "yarn"},
    {"rope_type": "yarn", "factor": 4.0, "mscale": 0.7, "mscale_all_dim": 0.4},
    {"rope_type": "yarn", "factor": 4.0, "beta_fast": 8.0, "beta_slow": 2.0, "truncate": False},
    {"rope_type": "yarn", "factor": 4.0, "attention_factor": 1.5, "partial_rotary_factor": 0.75},
    {"rope_type": "longrope", "original_max_position_embeddings": 32, **LONG},
    {"rope_type": "longrope", "factor": 3.0, **LONG},
    {"rope_type": "longrope", "attention_factor": 1.5, **LONG},
]


@pytest.mark.parametrize("fields", ROPES)
def test_rotary_positions_equal_those_of_transformers(fields, read):
    rope = {"rope_theta": 5000.0, "partial_rotary_factor": 1.0, **fields}
    head = 12 if "long_factor" in fields else 16
    hf = transformers.LlamaConfig(**SMALL, head_dim=head, rope_parameters=rope)
    config = read(hf.to_dict())
    for length in (20, 300):
        frequencies, scale = 5000.0 ** -(np.arange(0, head, 2) / head), 1.0
        if fields["rope_type"] != "default":
            made = ROPE_INIT_FUNCTIONS[fields["rope_type"]](hf, seq_len=length)
            frequencies, scale = made[0].double().numpy(), made[1]
        angles = np.arange(length)[:, None] * frequencies
        cos, sin = rope_table(jnp.arange(length)[None], config.rope, head, "float32")
        np.testing.assert_allclose(cos[0, :, 0], scale * np.cos(angles), atol=1e-4)
        np.testing.assert_allclose(sin[0, :, 0], scale * np.sin(angles), atol=1e-4)


PREFIXES = {
    "language_model.model.": {},
    "model.language_model.": {
        "language_model.model.": "model.language_model.",
        "vision_tower.": "model.vision_tower.",
        "multi_modal_projector.": "model.multi_modal_projector.",
    },
}


@pytest.mark.parametrize("prefix", PREFIXES)
def test_the_text_part_of_a_gemma_3_that_sees_images_is_read_and_written_alone(prefix, tmp_path):
    theirs = gemma_3_with_images()
    source, written = tmp_path / "source", tmp_path / "written"
    copy.deepcopy(theirs).bfloat16().save_pretrained(source)
    tensors = load_file(source / "model.safetensors")
    for old, new in PREFIXES[prefix].items():
        tensors = {
            new + k.removeprefix(old) if k.startswith(old) else k: v for k, v in tensors.items()
        }
    assert any(k.startswith(prefix) for k in tensors) and any("vision_tower" in k for k in tensors)
    save_file(tensors, source / "model.safetensors")

    model, params = models.load(source)
    tokens = rows().tokens[:1] % 90
    expected = theirs(torch.tensor(tokens)).logits.detach()
    apply: Any = jax.jit(model.apply)
    ours = apply({"params": params}, jnp.asarray(tokens)).logits()
    assert np.abs(np.asarray(ours) - expected.numpy()).max() <= 1e-5

    models.save(written, model, params)
    config = json.loads((written / "config.json").read_text())
    assert config["model_type"] == "gemma3_text" and config["dtype"] == "bfloat16"
    again, info = AutoModel.from_pretrained(
        written, dtype=torch.float32, output_loading_info=True, local_files_only=True
    )
    assert type(again).__name__ == "Gemma3ForCausalLM" and not any(info.values()), info
    assert torch.equal(again.eval()(torch.tensor(tokens)).logits, expected)


def gemma_3_with_images():
    """A tiny one whose weights are numbers of bfloat16."""
    torch.manual_seed(0)
    text = {**SMALL, "num_hidden_layers": 3, "head_dim": 24, "sliding_window": 5}
    text |= {"layer_types": ["sliding_attention"] * 2 + ["full_attention"], "pad_token_id": 0}
    sizes = ("hidden_size", "intermediate_size", "image_size")
    vision = {**dict.fromkeys(sizes, 16), "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.Gemma3Config(
        text_config={**text, "initializer_range": 0.1},
        vision_config={**vision, "patch_size": 8},
        mm_tokens_per_image=4,
        image_token_index=100,
    )
    model = transformers.Gemma3ForConditionalGeneration(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(weight.bfloat16())
    return model


@pytest.mark.parametrize(
    ("name", "prefix", "buffer"),
    [
        ("gpt2", "transformer.", "h.0.attn.bias"),
        ("gpt2", "transformer.", "h.1.attn.masked_bias"),
        ("gpt_neo", "transformer.", "h.0.attn.attention.masked_bias"),
        ("gpt_neo", "", "transformer.h.0.attn.attention.bias"),
        ("gpt_neox", "", "gpt_neox.layers.0.attention.bias"),
        ("gpt_neox", "", "gpt_neox.layers.1.attention.rotary_emb.inv_freq"),
        ("llama, tied", "", "model.layers.0.self_attn.rotary_emb.inv_freq"),
    ],
)
def test_old_files_without_the_prefix_and_with_buffers_load(name, prefix, buffer, folder_of):
    folder, _ = folder_of(name)
    _, expected = models.load(folder)
    tensors = load_file(folder / "model.safetensors")
    old = {key.removeprefix(prefix): value for key, value in tensors.items()}
    assert (old.keys() != tensors.keys()) == bool(prefix)
    save_file({**old, buffer: np.ones((1, 1, 4, 4), np.float32)}, folder / "model.safetensors")
    jax.tree.map(np.testing.assert_array_equal, models.load(folder)[1], expected)


def test_a_family_of_ones_own_reads_and_writes_a_model_type_we_do_not_know(
    folder_of, tmp_path, monkeypatch
):
    (tmp_path / "my_families.py").write_text(
        "import dataclasses\n"
        "from unilogit_jax.models.families.llama import FAMILY as LLAMA\n"
        "names = {key: f'my.{name}' for key, name in LLAMA.names.items()}\n"
        "FAMILY = dataclasses.replace(LLAMA, names=names)\n"
        "NONE = 'a text'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    folder, _ = folder_of("llama, biases")
    _, expected = models.load(folder)
    tensors = load_file(folder / "model.safetensors")
    save_file({f"my.{key}": value for key, value in tensors.items()}, folder / "model.safetensors")
    hf = json.loads((folder / "config.json").read_text()) | {"model_type": "mine"}
    (folder / "config.json").write_text(json.dumps(hf))

    model, params = models.load(folder, family="my_families:FAMILY")
    jax.tree.map(np.testing.assert_array_equal, params, expected)
    models.save(tmp_path / "again", model, params)
    again = load_file(tmp_path / "again" / "model.safetensors")
    assert again.keys() == {f"my.{key}" for key in tensors}
    assert json.loads((tmp_path / "again" / "config.json").read_text())["model_type"] == "mine"

    with pytest.raises(WeightsError, match="model_type 'mine' is not supported; known: llama, mis"):
        models.load(folder)
    for family, message in {
        "my_families:FAMILI": "'my_families:FAMILI' cannot be imported: .* no attribute 'FAMILI'",
        "no_such_file:FAMILY": "'no_such_file:FAMILY' cannot be imported: No module named 'no_such",
        "my_families:NONE": "'my_families:NONE' is a str, not a Family",
    }.items():
        with pytest.raises(WeightsError, match=message):
            models.load(folder, family=family)


def test_every_family_file_is_in_the_table_and_every_family_has_a_parity_case():
    files = {path.stem for path in Path(families.__file__).parent.glob("[!_]*.py")}
    modules = {name for name in files if getattr(families, name).FAMILY in models.FAMILIES.values()}
    assert files == modules
    tested = {getattr(transformers, case.config).model_type for case in CASES.values()}
    assert tested == set(ALONE)
