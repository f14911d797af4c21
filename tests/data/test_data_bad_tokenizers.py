# SPDX-License-Identifier: Apache-2.0
"""Whatever stands in a tokenizer's files: a tokenizer that works, or one short sentence."""

import json
import os

import pytest
from bad_input import few, trees
from hypothesis import given
from hypothesis import strategies as st

from unilogit_jax.data import (
    Example,
    check_tokens,
    check_vocabulary,
    encode,
    end_ids,
    load_tokenizer,
    train_tokenizer,
)
from unilogit_jax.errors import DataError, UnilogitError, WeightsError

TEXTS = ["Question: Who was Vela Dorn? Answer: A baker in 12 towns."]
ROWS = [Example("Who?", "Vela.", "row 1")]
CONFIG, FILE = "tokenizer_config.json", "tokenizer.json"
ADDED = dict.fromkeys(["single_word", "lstrip", "rstrip", "normalized"], False) | {"special": True}
CHOICES = [
    *("eos_token", "pad_token", "bos_token", "chat_template", "tokenizer_class", "backend"),
    *("model_max_length", "added_tokens_decoder", "extra_special_tokens", "padding_side"),
]
PARTS = ["added_tokens", "normalizer", "pre_tokenizer", "decoder", "model", "padding", "truncation"]
ODD = [
    *(None, True, 0, -1, 10**30, float("nan"), "", "x\n", "\ud800", [], [1], {}, {"a": 1}),
    *({"content": "zz"}, {"type": "BPE"}, {"type": "FixedLength", "length": 0}, [{"id": 2**32}]),
]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """(folder, tokenizer.json, tokenizer_config.json) of a small tokenizer."""
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(TEXTS, vocab_size=280).save_pretrained(folder)
    return folder, *(json.loads((folder / name).read_text()) for name in (FILE, CONFIG))


def told(files, *, tokens=None, config=None):
    """What is wrong with a tokenizer of which something is changed; empty if nothing is."""
    folder, *originals = files
    for name, old, new in zip((FILE, CONFIG), originals, (tokens, config), strict=True):
        if not isinstance(new, bytes):
            new = json.dumps(old | (new or {}) if isinstance(new, dict | None) else new).encode()
        (folder / name).write_bytes(new)
    try:
        tokenizer = load_tokenizer(folder)
        for template in ("auto", "plain"):
            assert (encode(tokenizer, ROWS, template=template).lengths > 1).all()
        assert end_ids(tokenizer)
    except UnilogitError as error:
        assert "\n" not in str(error) and len(str(error)) < 600
        return str(error)
    return ""


def model(kind, vocabulary, **fields):
    return {"model": {"type": kind, "vocab": vocabulary, "unk_token": "[UNK]"} | fields}


def test_the_tokenizer_that_is_spoilt_here_is_a_good_one(files):
    assert told(files) == ""


@few(25)
@given(data=st.binary(max_size=40), which=st.sampled_from(["tokens", "config"]))
def test_any_bytes(files, data, which):
    assert told(files, **{which: data})


@few(40)
@given(tree=trees([*CHOICES, *PARTS], odd=ODD, leaves=6))
def test_any_json(files, tree):
    told(files, config=tree)
    assert told(files, tokens=json.dumps(tree).encode())


@pytest.mark.parametrize("key", [*CHOICES, *PARTS])
def test_any_value_at_any_key(files, key):
    for value in ODD:
        told(files, **{"config" if key in CHOICES else "tokens": {key: value}})


@pytest.mark.parametrize("share", [0.0, 0.1, 0.9])
def test_a_tokenizer_that_is_cut_off_is_refused(files, share):
    whole = json.dumps(files[1]).encode()
    assert "cannot be read or used" in told(files, tokens=whole[: int(share * len(whole))])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tokens": model("WordLevel", {"a": 0})}, "WordLevel error: Missing [UNK] token"),
        ({"tokens": model("BPE", {}, merges=[], unk_token=None)}, "it makes no tokens of a text"),
        ({"tokens": {"pre_tokenizer": {"type": "FixedLength", "length": 0}}}, "PanicException"),
        ({"config": {"model_max_length": "x"}}, "cannot be read or used (TypeError"),
        ({"config": {"eos_token": None}}, "has no end token"),
        ({"config": {"chat_template": 5}}, "template refuses the conversation: TypeError"),
        ({"config": {"chat_template": {"a": "b"}}}, "template refuses the conversation: ValueErr"),
        ({"config": {"chat_template": "{{ 1 // 0 }}"}}, "ZeroDivisionError"),
        ({"config": {"chat_template": "{% for x in range(9**9) %}{% endfor %}"}}, "OverflowError"),
        ({"config": {"chat_template": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"}}, "Recur"),
        ({"config": {"chat_template": "{{ raise_exception('no\\nno') }}"}}, "TemplateError: no no"),
        ({"config": {"chat_template": "\ud800"}}, "cannot take the text '\\ud800'"),
    ],
)
def test_what_is_wrong_is_said(files, change, words):
    assert words in told(files, **change)


@pytest.mark.parametrize("name", [FILE, CONFIG, "config.json", "special_tokens_map.json"])
def test_a_pipe_or_a_folder_in_place_of_a_file_is_refused(tmp_path, name):
    (tmp_path / FILE).write_text("{}")
    (tmp_path / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / name)
    with pytest.raises(WeightsError, match=f"{name} is a folder or a device"):
        load_tokenizer(tmp_path)


def test_a_text_that_the_tokenizer_does_not_know_is_said(files):
    known = {"[UNK]": 0, "a": 1}
    assert told(files, tokens=model("WordLevel", known)) == ""
    tokenizer = load_tokenizer(files[0])
    tokenizer.backend_tokenizer.model = type(tokenizer.backend_tokenizer.model)({"a": 1}, "[UNK]")
    with pytest.raises(DataError, match=r"cannot take the text 'Question: Who\?.*Missing \[UNK\]"):
        encode(tokenizer, ROWS)


def test_without_pad_and_begin_tokens_and_a_chat_template_rows_are_made_all_the_same(files):
    changes = {"pad_token": None, "bos_token": None, "chat_template": None}
    assert told(files, config=changes) == ""
    tokenizer = load_tokenizer(files[0])
    rows = encode(tokenizer, ROWS)
    assert set(rows.tokens[0, rows.lengths[0] :]) == {tokenizer.eos_token_id}


@pytest.mark.parametrize("role", ["eos_token", "bos_token", "pad_token"])
def test_a_special_token_that_the_model_does_not_have_is_refused(files, role):
    assert told(files, config={role: "<|new|>"}) == ""
    tokenizer = load_tokenizer(files[0])
    size = len(tokenizer)
    check_vocabulary(tokenizer, size, "here")
    with pytest.raises(
        WeightsError, match=rf"in here has {role} '<\|new\|>' with number {size - 1}"
    ):
        check_vocabulary(tokenizer, size - 1, "here")


def test_a_tokenizer_of_another_model_is_refused_and_an_added_token_is_not(files):
    image = {"id": 10_000, "content": "<image>", **ADDED}
    assert told(files, tokens={"added_tokens": [*files[1]["added_tokens"], image]}) == ""
    tokenizer = load_tokenizer(files[0])
    assert "<image>" in tokenizer.get_vocab()
    own = 1 + max(files[1]["model"]["vocab"].values())
    check_vocabulary(tokenizer, own, "here")
    check_tokens(encode(tokenizer, ROWS), own)
    with pytest.raises(DataError, match=f"number {own}, but the model knows {own}: .* plain"):
        check_tokens(encode(tokenizer, [Example("Who is <image>?", "Vela.", "")]), own)
    with pytest.raises(WeightsError, match=f"tokens up to number {own - 1}, the model knows 100"):
        check_vocabulary(tokenizer, 100, "here")
