# SPDX-License-Identifier: Apache-2.0
"""Prompts of probes: pairs shown before the question, literal prompts, chats."""

import pytest

from unilogit_jax.data import (
    Example,
    Probe,
    encode,
    encode_probe,
    encode_probes,
    probe_prompt,
    prompt_ids,
    train_tokenizer,
)
from unilogit_jax.errors import DataError
from unilogit_jax.types import IGNORE

TEXTS = ["Question: Who lives in Oslo?\nAnswer: Ann lives in Oslo.", "Where does Bo live? In Rome."]
SHOTS = (("Who lives in Rome?", "Bo."), ("Where is Ann?", "In Oslo."))
CHAT = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@pytest.fixture
def tokenizer():
    made = train_tokenizer(TEXTS * 20, vocab_size=400)
    made.add_special_tokens({"bos_token": "<|start|>"})
    return made


def both(tokenizer, probe, text, template="plain", **options):
    """The whole as text, and its supervised part."""
    ids, start = encode_probe(tokenizer, probe, text, template=template, max_length=99, **options)
    prompt = probe_prompt(tokenizer, probe, template=template, **options)
    if probe.question is not None:
        assert (len(prompt), ids[:start]) == (start, prompt), "what is asked is what is scored"
    return tokenizer.decode(ids), tokenizer.decode(ids[start:])


def test_shown_pairs_stand_above_a_plain_question(tokenizer):
    probe = Probe("Who lives in Oslo?", "Ann.", "forget", shots=SHOTS)
    whole, supervised = both(tokenizer, probe, "Ann.")
    assert whole == (
        "<|start|>Question: Who lives in Rome?\nAnswer: Bo.\n\n"
        "Question: Where is Ann?\nAnswer: In Oslo.\n\n"
        "Question: Who lives in Oslo?\nAnswer: Ann.<|end|>"
    )
    assert supervised == " Ann.<|end|>"


def test_shown_pairs_are_earlier_turns_of_a_chat_after_the_system_prompt(tokenizer):
    tokenizer.chat_template = CHAT
    probe = Probe("Who lives in Oslo?", "Ann.", "forget", shots=SHOTS[:1])
    whole, supervised = both(tokenizer, probe, "Ann.", template="auto", system="Be short.")
    assert whole == (
        "<|system|>Be short.<|end|><|user|>Who lives in Rome?<|end|><|assistant|>Bo.<|end|>"
        "<|user|>Who lives in Oslo?<|end|><|assistant|>Ann.<|end|>"
    )
    assert supervised == "Ann.<|end|>"


@pytest.mark.parametrize("template", ["plain", "auto"])
def test_a_literal_question_is_the_whole_prompt_and_the_answer_continues_it(tokenizer, template):
    tokenizer.chat_template = CHAT
    probe = Probe("Ann lives in", " Oslo.", "forget", literal=True)
    whole, supervised = both(tokenizer, probe, " Oslo.", template, system="Be short.")
    assert (whole, supervised) == ("<|start|>Ann lives in Oslo.", " Oslo.")


def test_plain_text_is_supervised_after_the_start_token(tokenizer):
    probe = Probe(None, "Bo lives in Rome.", "forget")
    assert both(tokenizer, probe, probe.answer)[1] == "Bo lives in Rome."
    assert probe_prompt(tokenizer, probe) == [tokenizer.bos_token_id]


def test_a_probe_without_extras_is_encoded_as_an_example(tokenizer):
    for template in ("plain", "chat"):
        tokenizer.chat_template = CHAT
        probe, example = Probe("Who?", "Ann.", "forget"), Example("Who?", "Bo.")
        options = {"template": template, "system": "Be short."}
        asked = encode_probes(tokenizer, [(probe, "Bo."), (probe, "Ann.")], **options)
        rows = encode(tokenizer, [example], **options)
        length = rows.lengths[0]
        assert asked.tokens[0, :length].tolist() == rows.tokens[0, :length].tolist()
        assert asked.labels[0, :length].tolist() == rows.labels[0, :length].tolist()
        assert [x for x in asked.labels[1] if x != IGNORE][-1] == tokenizer.eos_token_id
        assert probe_prompt(tokenizer, probe, **options) == prompt_ids(tokenizer, "Who?", **options)


def test_a_probe_that_loses_its_answer_is_named(tokenizer):
    probe = Probe("Who lives in Oslo? " * 20, "Ann.", "forget")
    with pytest.raises(DataError, match=r"evaluation items: Who lives .*no answer token .*16 "):
        encode_probes(tokenizer, [(probe, "Ann.")], max_length=16)


def test_an_opening_ends_the_prompt_and_the_answer_goes_on(tokenizer):
    probe = Probe("Where does Bo live?", "In Rome.", "forget", opening="Answer:")
    whole, said = both(tokenizer, probe, probe.answer)
    assert whole == "<|start|>Where does Bo live?\nAnswer: In Rome." and said == " In Rome."
    tokenizer.chat_template = CHAT
    whole, said = both(tokenizer, probe, probe.answer, template="chat")
    assert whole == "<|user|>Where does Bo live?<|end|><|assistant|>Answer: In Rome."
    assert said == " In Rome.", "no end token: the answer is what goes on from the opening"
    bare = Probe("Where does Bo live?\n", "In Rome.", "forget", opening="")
    assert both(tokenizer, bare, "In Rome.")[0] == "<|start|>Where does Bo live?\nIn Rome."


def test_a_conversation_of_its_own_is_shown_and_has_its_system_prompt(tokenizer):
    tokenizer.chat_template = CHAT
    row = Example("Who lives in Oslo?", "Ann.", shots=SHOTS[:1], system="Be brief.")
    rows = encode(tokenizer, [row], template="chat", system="Be long.")
    text = tokenizer.decode(rows.tokens[0][: rows.lengths[0]])
    assert text.startswith(
        "<|system|>Be brief.<|end|><|user|>Who lives in Rome?<|end|><|assistant|>Bo.<|end|>"
        "<|user|>Who lives in Oslo?<|end|><|assistant|>"
    )
    supervised = rows.labels[0][rows.labels[0] != IGNORE]
    assert tokenizer.decode(supervised).startswith("Ann.")
    plain = encode(tokenizer, [Example("Who lives in Oslo?", "Ann.")], template="chat")
    assert plain.lengths[0] < rows.lengths[0]


def test_llama_2_has_its_answer_right_behind_the_prompt(tokenizer):
    tokenizer.chat_template = CHAT  # which is not asked
    probe = Probe("Where is Bo?", "In Rome.", "forget", shots=(("Who?", "Ann."),))
    whole, said = both(tokenizer, probe, probe.answer, template="llama2")
    assert whole.startswith("<|start|>[INST] Who? [/INST]Ann. [INST] Where is Bo? [/INST]In Rome.")
    assert said.startswith("In Rome.") and len(said) > len("In Rome."), "and its end token"
