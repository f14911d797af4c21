# SPDX-License-Identifier: Apache-2.0
"""Prompts, answer masks and truncation."""

import numpy as np
import pytest

from unilogit_jax.data import (
    Example,
    copy_tokenizer,
    encode,
    load_tokenizer,
    prompt_ids,
    train_tokenizer,
)
from unilogit_jax.errors import DataError, WeightsError
from unilogit_jax.types import IGNORE

TEXTS = ["Question: Who lives in Oslo?\nAnswer: Ann lives in Oslo.", "Where does Bo live? In Rome."]
CHAT = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS * 20, vocab_size=400)


def supervised(tokenizer, rows, r):
    return tokenizer.decode([x for x in rows.labels[r] if x != IGNORE])


def test_only_the_answer_and_its_end_token_are_supervised(tokenizer):
    rows = encode(tokenizer, [Example("Who lives in Oslo?", "Ann lives in Oslo.")])
    assert supervised(tokenizer, rows, 0) == " Ann lives in Oslo.<|end|>"


def test_labels_are_the_tokens_shifted_by_one(tokenizer):
    rows = encode(tokenizer, [Example("Who?", "Ann."), Example(None, "Bo lives in Rome.")])
    for r, length in enumerate(rows.lengths):
        on = rows.labels[r] != IGNORE
        assert np.array_equal(rows.labels[r, :-1][on[:-1]], rows.tokens[r, 1:][on[:-1]])
        assert not on[length - 1 :].any(), "the last token and the padding predict nothing"


def test_plain_text_is_supervised_from_its_second_token_without_an_end_token(tokenizer):
    rows = encode(tokenizer, [Example(None, "Bo lives in Rome.")])
    ids = tokenizer("Bo lives in Rome.")["input_ids"]
    assert [x for x in rows.labels[0] if x != IGNORE] == ids[1:]


def test_the_prompt_is_the_beginning_of_the_row(tokenizer):
    for template in ("plain", "chat"):
        tokenizer.chat_template = CHAT
        prompt = prompt_ids(tokenizer, "Who?", template=template)
        rows = encode(tokenizer, [Example("Who?", "Ann.")], template=template)
        assert rows.tokens[0, : len(prompt)].tolist() == prompt
        assert supervised(tokenizer, rows, 0).strip() == "Ann.<|end|>"
    tokenizer.chat_template = None


def test_chat_without_a_template_is_refused(tokenizer):
    with pytest.raises(DataError, match="no chat template"):
        encode(tokenizer, [Example("Who?", "Ann.")], template="chat")


def test_a_row_that_loses_its_whole_answer_is_refused_with_its_place(tokenizer):
    row = Example("Who lives in Oslo? " * 20, "Ann.", "forget.jsonl:7")
    with pytest.raises(DataError, match=r"forget.jsonl:7: no answer token is left .* 16 tokens"):
        encode(tokenizer, [row], max_length=16)


def test_an_empty_set_is_refused_by_its_name(tokenizer):
    with pytest.raises(DataError, match="no rows to forget"):
        encode(tokenizer, [], what="rows to forget")


def test_a_trained_tokenizer_survives_saving_and_copying(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path / "a")
    copy_tokenizer(tmp_path / "a", tmp_path / "b")
    again = load_tokenizer(tmp_path / "b")
    assert again("Ann lives in Rome.")["input_ids"] == tokenizer("Ann lives in Rome.")["input_ids"]
    assert again.eos_token_id == tokenizer.eos_token_id


def test_a_folder_without_a_tokenizer_is_refused(tmp_path):
    with pytest.raises(WeightsError, match=r"no tokenizer in .*tokenizer.json"):
        load_tokenizer(tmp_path)


def test_joined_rows_are_those_that_are_encoded_together():
    tokenizer = train_tokenizer(["Who was Vela Dorn, a baker in Lund?"], vocab_size=300)
    short = [Example("Who?", "Vela.", ""), Example(None, "a baker", "")]
    long = [Example("Who was Vela Dorn?", "a baker in Lund, was Vela Dorn", "")]
    for first, second in ((short, long), (long, short)):
        joined = encode(tokenizer, first).joined(encode(tokenizer, second))
        together = encode(tokenizer, first + second)
        real = np.arange(together.length) < together.lengths[:, None]
        np.testing.assert_array_equal(joined.lengths, together.lengths)
        np.testing.assert_array_equal(joined.labels, together.labels)
        np.testing.assert_array_equal(joined.tokens[real], together.tokens[real])
