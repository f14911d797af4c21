# SPDX-License-Identifier: Apache-2.0
"""Adapters and their folders against the library peft, on models of transformers in float32."""

import json
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from parity_cases import CASES, VOCABULARY, make
from safetensors.numpy import load_file, save_file

from unilogit_jax import models
from unilogit_jax.errors import ConfigError, WeightsError
from unilogit_jax.models.lora import Lora, merge_lora, scaled
from unilogit_jax.models.peft_io import adapter_tensors, load_adapter, save_adapter
from unilogit_jax.sharding import make_mesh

torch = pytest.importorskip("torch")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import peft
    from transformers import AutoModelForCausalLM

pytestmark = [
    pytest.mark.parity,
    # peft 0.21 asks transformers 5.23 by the old name.
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"),
]
TOLERANCE = 1e-5
TOKENS = np.random.default_rng(1).integers(0, VOCABULARY, (2, 24))
LLAMA = "llama, untied, grouped queries, own head_dim"
TARGETS = ["q_proj", "v_proj", "o_proj", "down_proj"]


def disturb(theirs):
    """peft begins with B = 0, where a wrong factor would not show."""
    torch.manual_seed(3)
    with torch.no_grad():
        for name, weight in theirs.named_parameters():
            if "lora_B" in name:
                weight += 0.1 * torch.randn_like(weight)
    return theirs.eval()


def torch_logits(theirs):
    with torch.no_grad():
        return theirs(torch.tensor(TOKENS)).logits.numpy()


def our_logits(model, params, adapters, lora):
    variables = {"params": params, "lora": scaled(adapters, lora)}
    return np.asarray(jax.jit(model.apply)(variables, jnp.asarray(TOKENS)).logits())


def filled(lora, model):
    rng = np.random.default_rng(7)
    return jax.tree.map(
        lambda leaf: jnp.asarray(0.1 * rng.standard_normal(leaf.shape), leaf.dtype),
        lora.shapes(model),
    )


def close(a, b):
    assert np.abs(np.asarray(a) - np.asarray(b)).max() <= TOLERANCE


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    """(folder, our model, our params) of a small Llama that transformers wrote."""
    folder = tmp_path_factory.mktemp("llama")
    make(CASES[LLAMA], folder)
    return folder, *models.load(folder)


def theirs_of(folder):
    return AutoModelForCausalLM.from_pretrained(folder, local_files_only=True).eval()


@pytest.fixture(scope="module")
def pair(llama, tmp_path_factory):
    """(peft's model, its saved folder) on that Llama, at a scale that is no power of two."""
    config = peft.LoraConfig(r=3, lora_alpha=7, target_modules=TARGETS, task_type="CAUSAL_LM")
    theirs = disturb(peft.get_peft_model(theirs_of(llama[0]), config))
    folder = tmp_path_factory.mktemp("peft") / "adapter"
    theirs.save_pretrained(folder)
    return theirs, folder


def test_logits_and_gradients_of_the_factors_are_those_of_peft(llama, pair):
    _, model, params = llama
    theirs, folder = pair
    lora, adapters = load_adapter(folder, model)
    assert (lora.rank, lora.alpha) == (3, 7.0)
    direction = np.random.default_rng(2).standard_normal((*TOKENS.shape, VOCABULARY))
    direction = np.float32(direction)

    def inner(adapters):
        variables = {"params": params, "lora": scaled(adapters, lora)}
        z = model.apply(variables, jnp.asarray(TOKENS)).logits()
        return jnp.vdot(z, direction) / z.size, z

    (_, ours), grads = jax.jit(jax.value_and_grad(inner, has_aux=True))(adapters)
    expected = theirs(torch.tensor(TOKENS)).logits
    close(ours, expected.detach())
    assert np.abs(ours - torch_logits(theirs_of(llama[0]))).max() > 0.1

    ((expected * torch.tensor(direction)).sum() / expected.numel()).backward()
    wanted = {
        name.replace(".default", ""): weight.grad.numpy()
        for name, weight in theirs.named_parameters()
        if weight.requires_grad
    }
    got = dict(adapter_tensors(model, grads, lora))
    assert got.keys() == wanted.keys() and len(got) == 2 * 2 * len(TARGETS)
    for name, grad in wanted.items():
        assert np.abs(got[name] - grad).max() <= TOLERANCE * np.abs(grad).max(), name


def test_fresh_factors_are_drawn_from_the_range_that_peft_draws_from(llama, tmp_path):
    config = peft.LoraConfig(r=64, target_modules=["q_proj", "o_proj"], task_type="CAUSAL_LM")
    peft.get_peft_model(theirs_of(llama[0]), config).save_pretrained(tmp_path / "fresh")
    lora, theirs = load_adapter(tmp_path / "fresh", llama[1])
    ours = lora.init(llama[1], jax.random.key(0))

    def facts(x):
        return [np.abs(x).max(), np.square(x).mean() ** 0.5]

    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(facts(a), facts(b), rtol=0.03)


def test_peft_loads_what_we_save_and_merges_to_what_we_merge(llama, tmp_path):
    folder, model, params = llama
    lora = Lora(rank=5, alpha=6.5, targets=("attn.*", "up_proj"))
    adapters = filled(lora, model)
    save_adapter(tmp_path / "adapter", model, adapters, lora, base_name=str(folder))
    theirs = peft.PeftModel.from_pretrained(theirs_of(folder), tmp_path / "adapter").eval()
    applied = our_logits(model, params, adapters, lora)
    close(applied, torch_logits(theirs))
    assert {p.name for p in tmp_path.iterdir()} == {"adapter"}
    assert {p.name for p in (tmp_path / "adapter").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    assert len({p.stat().st_mode for p in (tmp_path / "adapter").iterdir()}) == 1

    models.save(tmp_path / "merged", model, merge_lora(params, adapters, lora))
    close(torch_logits(theirs_of(tmp_path / "merged")), torch_logits(theirs.merge_and_unload()))


def test_a_round_trip_changes_no_bit_on_one_and_on_eight_devices(llama, pair, tmp_path):
    model, mesh = llama[1], make_mesh(fsdp=4, tensor=2)
    lora, adapters = load_adapter(pair[1], model, mesh=mesh)
    places = jax.tree.map(lambda leaf: leaf.sharding, adapters)
    assert places == lora.shardings(model, mesh)
    save_adapter(tmp_path / "again", model, adapters, lora, base_name="base")
    ours, theirs = (
        load_file(f / "adapter_model.safetensors") for f in (tmp_path / "again", pair[1])
    )
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        np.testing.assert_array_equal(ours[name], tensor)
    assert load_adapter(tmp_path / "again", model)[0] == lora
    written = json.loads((tmp_path / "again" / "adapter_config.json").read_text())
    saved = json.loads((pair[1] / "adapter_config.json").read_text())
    assert sorted(saved.pop("target_modules")) == written.pop("target_modules")
    for key in ("base_model_name_or_path", "inference_mode"):
        written.pop(key)
    assert written.items() <= saved.items()


def test_rank_stabilised_and_bfloat16_adapters_act_as_in_peft(llama, tmp_path):
    folder, model, params = llama
    config = peft.LoraConfig(
        r=3, lora_alpha=2, use_rslora=True, target_modules=TARGETS, task_type="CAUSAL_LM"
    )
    theirs = disturb(peft.get_peft_model(theirs_of(folder), config))
    with torch.no_grad():
        for name, weight in theirs.named_parameters():
            if "lora" in name:
                weight.copy_(weight.bfloat16())
    theirs.save_pretrained(tmp_path / "half")
    path = tmp_path / "half" / "adapter_model.safetensors"
    halved = {name: tensor.astype(jnp.bfloat16) for name, tensor in load_file(path).items()}
    save_file(halved, path)
    lora, adapters = load_adapter(tmp_path / "half", model)
    assert {leaf.dtype for leaf in jax.tree.leaves(adapters)} == {jnp.dtype("float32")}
    close(our_logits(model, params, adapters, lora), torch_logits(theirs))


@pytest.mark.parametrize("name", ["gpt2", "phi3, window", "gpt_neox"])
def test_merging_and_exporting_works_where_files_keep_layers_fused(name, tmp_path):
    make(CASES[name], tmp_path / "base")
    model, params = models.load(tmp_path / "base")
    lora = Lora(rank=4, alpha=6.0, targets=("*",))
    adapters = filled(lora, model)
    applied = our_logits(model, params, adapters, lora)
    models.save(tmp_path / "merged", model, merge_lora(params, adapters, lora))
    merged = torch_logits(theirs_of(tmp_path / "merged"))
    close(merged, applied)
    assert np.abs(merged - torch_logits(theirs_of(tmp_path / "base"))).max() > 0.1

    with pytest.raises(ConfigError, match=r"^'layers.attn.k_proj' is a part of '.*merge the adap"):
        save_adapter(tmp_path / "adapter", model, adapters, lora, base_name="base")
    assert not (tmp_path / "adapter").exists()

    fused = {"gpt2": "c_attn", "gpt_neox": "query_key_value"}.get(name, "qkv_proj")
    config = peft.LoraConfig(
        target_modules=[fused], task_type="CAUSAL_LM", fan_in_fan_out=name == "gpt2"
    )
    theirs = peft.get_peft_model(theirs_of(tmp_path / "base"), config)
    theirs.save_pretrained(tmp_path / "theirs")
    with pytest.raises(WeightsError, match=f"adapts '{fused}', which is 3 layers here: merge"):
        load_adapter(tmp_path / "theirs", model)


def test_layers_of_gpt2_that_stand_alone_go_to_peft_and_back(tmp_path):
    make(CASES["gpt2"], tmp_path / "base")
    model, params = models.load(tmp_path / "base")
    # Two layers of the files end in c_proj, of which one is adapted.
    lora = Lora(rank=4, alpha=6.0, targets=("layers.attn.o_proj", "layers.mlp.up_proj"))
    adapters = filled(lora, model)
    save_adapter(tmp_path / "adapter", model, adapters, lora, base_name="base")
    theirs = peft.PeftModel.from_pretrained(theirs_of(tmp_path / "base"), tmp_path / "adapter")
    close(our_logits(model, params, adapters, lora), torch_logits(theirs.eval()))
    again, loaded = load_adapter(tmp_path / "adapter", model)
    assert again == lora
    jax.tree.map(np.testing.assert_array_equal, loaded, adapters)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"use_dora": True}, "use_dora = True is not supported: merge"),
        ({"rank_pattern": {"q_proj": 4}}, "rank_pattern = .* is not supported"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save = .* is not supported"),
        ({"bias": "all"}, "bias = 'all' is not supported"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights = 'pissa' is not supported"),
        ({"something_new": 1}, "something_new = 1 is not supported"),
        ({"peft_type": "IA3"}, r"peft_type must be LORA, got 'IA3'\.$"),
        ({"r": 4}, r"has shape \[3, 96\], .* asks for \[4, 96\]"),
        ({"r": None}, r"r must be a number larger than 0, got None\.$"),
        ({"lora_alpha": -1}, r"lora_alpha must be a number larger than 0, got -1\.$"),
    ],
)
def test_what_is_no_plain_lora_is_refused_by_name(llama, pair, tmp_path, changes, message):
    config = json.loads((pair[1] / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | changes))
    tensors = (pair[1] / "adapter_model.safetensors").read_bytes()
    (tmp_path / "adapter_model.safetensors").write_bytes(tensors)
    with pytest.raises(WeightsError, match=message):
        load_adapter(tmp_path, llama[1])


def test_missing_foreign_and_pickled_tensors_are_refused(llama, pair, tmp_path):
    config = (pair[1] / "adapter_config.json").read_text()
    (tmp_path / "adapter_config.json").write_text(config)
    path = tmp_path / "adapter_model.safetensors"
    (tmp_path / "adapter_model.bin").touch()
    with pytest.raises(WeightsError, match="has a pickle file"):
        load_adapter(tmp_path, llama[1])
    tensors = load_file(pair[1] / "adapter_model.safetensors")
    name = min(tensors)
    save_file({key: tensors[key] for key in tensors if key != name}, path)
    with pytest.raises(WeightsError, match=rf"lacks 1 tensor\(s\): {name}\.$"):
        load_adapter(tmp_path, llama[1])
    save_file(tensors | {"base_model.model.lm_head.lora_A.weight": tensors[name]}, path)
    with pytest.raises(WeightsError, match=r"has unexpected 1 tensor\(s\): .*lm_head"):
        load_adapter(tmp_path, llama[1])
    save_file({f"x.{key}": value for key, value in tensors.items()}, path)
    with pytest.raises(WeightsError, match=r"adapts no linear layer of this llama: .*'x\.base"):
        load_adapter(tmp_path, llama[1])
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(WeightsError, match="is damaged or cut short"):
        load_adapter(tmp_path, llama[1])


def test_nothing_is_written_over_anything_or_for_adapters_that_do_not_fit(llama, tmp_path):
    _, model, _ = llama
    lora = Lora(rank=2)
    adapters = filled(lora, model)
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(WeightsError, match="is not empty: choose another folder"):
        save_adapter(tmp_path, model, adapters, lora, base_name="base")
    for other in (Lora(rank=3), Lora(rank=2, targets=("q_proj",))):
        with pytest.raises(ConfigError, match="the adapters do not fit"):
            save_adapter(tmp_path / "new", model, adapters, other, base_name="base")
    with pytest.raises(WeightsError, match="cannot be written"):
        save_adapter(tmp_path / "mine" / "new", model, adapters, lora, base_name="base")
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]
