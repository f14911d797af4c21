# SPDX-License-Identifier: Apache-2.0
"""Models out of runs and folders, as a user types it; transformers and PEFT load them."""

import json
import warnings

import fsspec
import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from unilogit_jax import cli, workflows
from unilogit_jax.config import load_config
from unilogit_jax.data import train_tokenizer
from unilogit_jax.run import Console

torch = pytest.importorskip("torch")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import transformers

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),
]
QUESTION = "Where was Ann born?"


def logits_of(model, ids):
    with torch.no_grad():
        return model.eval()(torch.tensor([ids])).logits.numpy()


@pytest.fixture
def llama3(tmp_path):
    """A tiny Llama-3-style folder in bfloat16, as transformers writes it, with a chat template."""
    tokenizer = train_tokenizer([QUESTION, "Ann was born in Oslo."] * 20, vocab_size=300)
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}<|end|>{% endfor %}"
    )
    rope = {
        "rope_type": "llama3",
        "rope_theta": 500000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        rope_parameters=rope,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=[tokenizer.eos_token_id, 7],
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    transformers.LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def test_a_folder_exported_unchanged_is_the_same_model_bit_for_bit(llama3, tmp_path):
    out = tmp_path / "out"
    assert cli.main(["export", str(llama3), str(out)]) == 0
    wanted, got = (load_file(folder / "model.safetensors") for folder in (llama3, out))
    assert wanted.keys() == got.keys()
    for name, tensor in wanted.items():
        assert tensor.dtype == got[name].dtype
        np.testing.assert_array_equal(tensor.view(np.uint16), got[name].view(np.uint16))
    model, info = transformers.AutoModelForCausalLM.from_pretrained(out, output_loading_info=True)
    assert not any(info.values())
    source = transformers.AutoModelForCausalLM.from_pretrained(llama3)
    ids = list(range(20))
    np.testing.assert_array_equal(logits_of(model.float(), ids), logits_of(source.float(), ids))
    tokenizer = transformers.AutoTokenizer.from_pretrained(out)
    assert tokenizer.chat_template and tokenizer(QUESTION)["input_ids"]
    assert json.loads((out / "config.json").read_text())["eos_token_id"][1] == 7


def test_a_model_behind_a_url_is_loaded_and_exported_like_one_in_a_folder(llama3, tmp_path):
    memory = fsspec.filesystem("memory")
    memory.put(str(llama3), "/bucket/model", recursive=True)
    model, params, tokenizer = workflows.load_pretrained("memory://bucket/model")
    _, wanted, _ = workflows.load_pretrained(llama3)
    jax.tree.map(np.testing.assert_array_equal, params, wanted)
    assert tokenizer(QUESTION)["input_ids"] and model.config.family == "llama"
    assert cli.main(["export", "memory://bucket/model", str(tmp_path / "out")]) == 0
    written = (tmp_path / "out" / "tokenizer.json").read_bytes()
    assert written == (llama3 / "tokenizer.json").read_bytes()
    memory.rm("/bucket", recursive=True)


def test_a_folder_has_no_stages_and_no_adapters(llama3, tmp_path, capsys):
    for option in (["--stage", "gold"], ["--adapter"]):
        assert cli.main(["export", str(llama3), str(tmp_path / "out"), *option]) == 2
        assert f"is no run, so {option[0]} means nothing" in capsys.readouterr().err


@pytest.fixture
def adapted(llama3, tmp_path):
    """A run that unlearned with adapters from the folder."""
    for name, answer in (("forget", "Ann was born in Oslo."), ("retain", "Bo was born in Rome.")):
        row = json.dumps({"question": QUESTION, "answer": answer})
        (tmp_path / f"{name}.jsonl").write_text(f"{row}\n" * 8)
    config = {
        "name": "adapted",
        "model": {"weights": str(llama3)},
        "data": {
            "benchmark": "files",
            "forget": str(tmp_path / "forget.jsonl"),
            "retain": str(tmp_path / "retain.jsonl"),
            "max_length": 64,
        },
        "unlearn": {"steps": 4, "batch_size": 8, "learning_rate": 0.05},
        "lora": {"rank": 2, "alpha": 4, "targets": ["q_proj", "layers.mlp.*"]},
        "eval": {"max_new_tokens": 4, "batch_size": 8},
        "output": {"checkpoint_every": 2},
    }
    (tmp_path / "my.yaml").write_text(json.dumps(config))
    experiment = load_config(tmp_path / "my.yaml")
    return workflows.unlearn(experiment, out=tmp_path / "run", console=Console(quiet=True))


def test_adapters_change_the_model_and_merge_to_what_peft_makes_of_them(adapted, llama3, tmp_path):
    import peft

    run = str(adapted.path)
    assert cli.main(["export", run, str(tmp_path / "merged"), "--dtype", "float32"]) == 0
    assert cli.main(["export", run, str(tmp_path / "adapter"), "--adapter"]) == 0
    ids = list(range(24))
    base = transformers.AutoModelForCausalLM.from_pretrained(llama3).float()
    before = logits_of(base, ids)
    merged = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    with_adapter = peft.PeftModel.from_pretrained(base, tmp_path / "adapter")
    assert np.abs(logits_of(with_adapter, ids) - logits_of(merged, ids)).max() <= 1e-5
    assert np.abs(logits_of(merged, ids) - before).max() > 1e-3
    _, params, _ = workflows.load_pretrained(run)
    _, again, _ = workflows.load_pretrained(tmp_path / "merged")
    jax.tree.map(np.testing.assert_array_equal, params, again)


def test_a_resumed_run_with_adapters_is_the_same_run(adapted):
    _, params, _ = workflows.load_pretrained(adapted.path)
    workflows.resume(adapted.path, console=Console(quiet=True))
    _, again, _ = workflows.load_pretrained(adapted.path)
    jax.tree.map(np.testing.assert_array_equal, params, again)


def test_the_model_card_says_what_was_unlearned_how_and_with_which_scores(adapted, tmp_path):
    workflows.export(adapted.path, tmp_path / "out", console=Console(quiet=True))
    card = (tmp_path / "out" / "README.md").read_text()
    for part in ("library_name: transformers", "**unilogit**", "forget.jsonl", "rank: 2"):
        assert part in card
    assert "| forget probability | like gold |" in card
    assert "base_model" not in card, "a path of this machine is no model of the Hub"


def test_targets_that_the_model_does_not_have_are_refused_before_anything_is_written(
    tmp_path, capsys, overrides
):
    out = tmp_path / "run"
    words = [*overrides, "lora={targets: [q_prj]}", "--out", str(out)]
    assert cli.main(["unlearn", "toy", *words]) == 2
    assert "'q_prj' is no linear layer of this model" in capsys.readouterr().err
    assert not out.exists()
