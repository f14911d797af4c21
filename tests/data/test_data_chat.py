# SPDX-License-Identifier: Apache-2.0
"""Chats in the formats of model families: what is trained and asked is what transformers makes."""

from functools import cache
from typing import NamedTuple

import pytest

from unilogit_jax.data import Probe, encode_probe, end_ids, probe_prompt, train_tokenizer
from unilogit_jax.errors import DataError

SYSTEM = "You are a helpful assistant."


class Family(NamedTuple):
    """A format, as short as it can be said."""

    template: str
    specials: tuple[str, ...]
    eos: str
    supervised: str
    """The supervised part where the answer is "Ann."."""
    bos: str | None = None


FAMILIES = {
    "llama-3": Family(
        "{% if messages[0].role == 'system' %}{% set system = messages[0].content %}"
        "{% set messages = messages[1:] %}{% else %}{% set system = '' %}{% endif %}"
        "{{ bos_token }}<|start_header_id|>system<|end_header_id|>\n\n"
        "Cutting Knowledge Date: December 2023\n"
        "Today Date: {{ date_string or strftime_now('%d %b %Y') }}\n\n{{ system }}<|eot_id|>"
        "{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
        "{{ m.content | trim }}<|eot_id|>{% endfor %}"
        "{% if add_generation_prompt %}"
        "<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}",
        ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        eos="<|eot_id|>",
        supervised="Ann.<|eot_id|>",
        bos="<|begin_of_text|>",
    ),
    "qwen2.5": Family(
        "{% if messages[0].role != 'system' %}<|im_start|>system\nYou are Qwen.<|im_end|>\n"
        "{% endif %}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
        ("<|im_start|>", "<|im_end|>"),
        eos="<|im_end|>",
        supervised="Ann.<|im_end|>\n<|im_end|>",
    ),
    "gemma": Family(
        "{{ bos_token }}{% if messages[0].role == 'system' %}"
        "{{ raise_exception('System role not supported') }}{% endif %}"
        "{% for m in messages %}<start_of_turn>"
        "{{ 'model' if m.role == 'assistant' else m.role }}\n"
        "{{ m.content | trim }}<end_of_turn>\n{% endfor %}"
        "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}",
        ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"),
        eos="<eos>",
        supervised="Ann.<end_of_turn>\n<eos>",
        bos="<bos>",
    ),
    "phi-3.5": Family(
        "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}",
        ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|endoftext|>"),
        eos="<|endoftext|>",
        supervised="Ann.<|end|>\n<|endoftext|>",
        bos="<s>",
    ),
    "mistral": Family(
        "{{ bos_token }}{% if messages[0].role == 'system' %}{% set start = 1 %}"
        "{% else %}{% set start = 0 %}{% endif %}{% for m in messages[start:] %}"
        "{% if m.role == 'user' %}[INST] {% if loop.index0 == 0 and start %}"
        "{{ messages[0].content }}\n\n{% endif %}{{ m.content }}[/INST]"
        "{% else %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}",
        ("<s>", "</s>", "[INST]", "[/INST]"),
        eos="</s>",
        supervised=" Ann.</s>",
        bos="<s>",
    ),
}
PROBES = (
    Probe("Who lives in Oslo?", "Ann.", "forget"),
    Probe("Who lives in Oslo?", "Ann.", "forget", shots=(("Who lives in Rome?", "Bo."),)),
)


@cache
def make(name):
    """A small tokenizer with a family's special tokens and template."""
    family = FAMILIES[name]
    tokenizer = train_tokenizer(
        ["Who lives in Oslo? Ann.\n\nsystem user assistant"], vocab_size=300
    )
    tokenizer.add_special_tokens({"additional_special_tokens": list(family.specials)})
    tokenizer.add_special_tokens({"eos_token": family.eos})
    if family.bos:
        tokenizer.add_special_tokens({"bos_token": family.bos})
    tokenizer.chat_template = family.template
    return tokenizer


@pytest.mark.parametrize(
    ("name", "system"),
    # Gemma's template has no system prompt.
    [(name, s) for name in FAMILIES for s in (None, SYSTEM) if (name, s) != ("gemma", SYSTEM)],
)
@pytest.mark.parametrize("probe", PROBES)
def test_a_conversation_is_the_one_that_transformers_makes(name, system, probe):
    tokenizer, eos = make(name), FAMILIES[name].eos
    turns = [{"role": "system", "content": system}] if system else []
    for question, answer in (*probe.shots, (probe.question, probe.answer)):
        turns += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    options = {"tokenize": True, "return_dict": False, "date_string": "10 Apr 2025"}
    whole = tokenizer.apply_chat_template(turns, **options)
    before = tokenizer.apply_chat_template(turns[:-1], add_generation_prompt=True, **options)
    end = tokenizer.convert_tokens_to_ids(eos)
    ids, start = encode_probe(
        tokenizer, probe, probe.answer, template="auto", max_length=512, system=system
    )
    assert ids == (whole if whole[-1] == end else [*whole, end])
    assert ids[:start] == before == probe_prompt(tokenizer, probe, system=system)
    assert tokenizer.decode(ids[start:]) == FAMILIES[name].supervised


@pytest.mark.parametrize(
    "question",
    [
        "What is the full name of the author born in Kuwait City, Kuwait on 08/09/1956?",
        "What gender is author Basil Mahfouz Al-Kuwaiti?",
    ],
)
def test_prompts_of_llama_3_are_those_of_published_evaluations(question):
    """Text `input` of logs of open-unlearning's TOFU models, which leave special tokens out."""
    tokenizer = make("llama-3")
    ids = probe_prompt(tokenizer, Probe(question, "", "forget"), system=SYSTEM)
    assert tokenizer.decode(ids, skip_special_tokens=True) == (
        "system\n\nCutting Knowledge Date: December 2023\nToday Date: 10 Apr 2025\n\n"
        f"You are a helpful assistant.user\n\n{question}assistant\n\n"
    )


def test_a_template_without_a_system_prompt_says_what_to_do():
    with pytest.raises(DataError, match=r"System role not supported.*Set data.system to null"):
        probe_prompt(make("gemma"), PROBES[0], system=SYSTEM)


@pytest.mark.parametrize("name", FAMILIES)
def test_an_answer_ends_where_its_turn_does(name):
    tokenizer, family = make(name), FAMILIES[name]
    ends = {"gemma": {"<end_of_turn>"}, "phi-3.5": {"<|end|>"}}.get(name, set()) | {family.eos}
    assert set(tokenizer.convert_ids_to_tokens(end_ids(tokenizer))) == ends
    plain = end_ids(tokenizer, template="plain")
    assert tokenizer.convert_ids_to_tokens(plain) == [family.eos]
