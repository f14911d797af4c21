# SPDX-License-Identifier: Apache-2.0
"""The decoder against LlamaForCausalLM of transformers, in float32."""

import json
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unilogit_jax import models

torch = pytest.importorskip("torch")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

pytestmark = pytest.mark.parity
TOLERANCE = 1e-5
LENGTHS = (32, 21, 9)

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
CASES = {
    "tied": {"tie_word_embeddings": True},
    "untied, grouped queries, own head_dim": {"num_key_value_heads": 2, "head_dim": 24},
    "llama3 rope, tied, one key head, 4.x dialect": {
        "tie_word_embeddings": True,
        "num_key_value_heads": 1,
        "num_hidden_layers": 3,
        "rope_parameters": LLAMA3,
    },
}


@pytest.fixture(scope="module", params=CASES)
def pair(request, tmp_path_factory):
    """(torch model, our model, our params), through the files that transformers writes."""
    sizes = {
        "vocab_size": 101,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 128,
        "initializer_range": 0.1,
    }
    torch.manual_seed(0)
    theirs = LlamaForCausalLM(LlamaConfig(**(sizes | CASES[request.param]))).eval()
    with torch.no_grad():
        for name, weight in theirs.named_parameters():
            if "norm" in name:
                weight += 0.2 * torch.randn_like(weight)
    folder = tmp_path_factory.mktemp("llama")
    theirs.save_pretrained(folder)
    if "4.x" in request.param:
        path = folder / "config.json"
        config = json.loads(path.read_text())
        rope = config.pop("rope_parameters")
        config |= {"rope_theta": rope.pop("rope_theta"), "rope_scaling": rope}
        path.write_text(json.dumps(config))
    return theirs, *models.load(folder)


@pytest.fixture(scope="module")
def rows():
    """(tokens, real) of three right-padded rows."""
    tokens = np.random.default_rng(1).integers(0, 101, (3, 32))
    return tokens, np.arange(32)[None, :] < np.asarray(LENGTHS)[:, None]


def torch_logits(theirs, tokens, real):
    return theirs(torch.tensor(tokens), attention_mask=torch.tensor(real.astype(int))).logits


def test_logits_and_all_gradients_match_on_full_and_right_padded_rows(pair, rows):
    theirs, model, params = pair
    tokens, real = rows
    direction = np.random.default_rng(2).standard_normal((3, 32, 101)).astype(np.float32)
    direction *= real[:, :, None]

    def inner(params):
        z = model.apply({"params": params}, jnp.asarray(tokens), jnp.asarray(real * 1)).logits()
        return jnp.vdot(z, direction) / z.size, z

    (_, ours), grads = jax.jit(jax.value_and_grad(inner, has_aux=True))(params)
    expected = torch_logits(theirs, tokens, real)
    worst = np.abs((np.asarray(ours) - expected.detach().numpy())[real]).max()
    assert worst <= TOLERANCE

    theirs.zero_grad()
    ((expected * torch.tensor(direction)).sum() / expected.numel()).backward()
    wanted = {name: p.grad.numpy() for name, p in theirs.named_parameters()}
    got = dict(models.hf_tensors(model, grads))
    assert got.keys() == wanted.keys()
    for name, grad in wanted.items():
        assert np.abs(got[name] - grad).max() <= TOLERANCE * np.abs(grad).max(), name


def test_packed_rows_match_their_unpacked_texts(pair, rows):
    theirs, model, params = pair
    tokens, real = rows
    expected = torch_logits(theirs, tokens, real).detach().numpy()[real]
    flat = jnp.asarray(tokens[real])[None]
    segments = jnp.asarray(np.repeat([1, 2, 3], LENGTHS))[None]
    positions = jnp.asarray(np.concatenate([np.arange(n) for n in LENGTHS]))[None]
    packed = jax.jit(lambda p: model.apply({"params": p}, flat, segments, positions).logits())
    assert np.abs(np.asarray(packed(params)[0]) - expected).max() <= TOLERANCE


def test_transformers_loads_what_we_save_without_a_missing_or_unexpected_key(pair, rows, tmp_path):
    theirs, model, params = pair
    models.save(tmp_path / "model", model, params, extra_config={"eos_token_id": 2})
    again, info = AutoModelForCausalLM.from_pretrained(
        tmp_path / "model", output_loading_info=True, local_files_only=True
    )
    assert not any(info.values()), info
    assert again.dtype == torch.float32
    np.testing.assert_array_equal(
        torch_logits(again.eval(), *rows).detach(), torch_logits(theirs, *rows).detach()
    )


def test_greedy_answers_match_token_for_token(pair):
    theirs, model, params = pair
    rng = np.random.default_rng(4)
    prompts = [rng.integers(3, 101, n).tolist() for n in (5, 17, 1, 9)]
    ids = torch.tensor([[0] * (17 - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (17 - len(p)) + [1] * len(p) for p in prompts])

    def answers(stop):
        settings = {"max_new_tokens": 10, "do_sample": False, "pad_token_id": 0}
        made = theirs.generate(ids, attention_mask=mask, eos_token_id=stop, **settings)
        rows = made[:, 17:].tolist()
        return [row[: row.index(stop) + 1] if stop in row else row for row in rows]

    stop = answers(102)[0][3]
    expected = answers(stop)
    assert len(expected[0]) <= 4 and len({len(row) for row in expected}) > 1
    assert expected == models.generate(model, params, prompts, max_new_tokens=10, stop_ids=[stop])
