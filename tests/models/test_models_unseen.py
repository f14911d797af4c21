# SPDX-License-Identifier: Apache-2.0
"""Tokens that no other one sees, against transformers with the mask `ids != end token`."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from parity_cases import CASES, TOLERANCE, VOCABULARY, make, quiet

from unilogit_jax import models
from unilogit_jax.data import Packing, Rows, assemble, assemble_packed
from unilogit_jax.models.attention import attention, hide, look
from unilogit_jax.models.splash import splash_attention
from unilogit_jax.types import IGNORE, RETAIN

torch: Any = pytest.importorskip("torch")
pytestmark = pytest.mark.parity
END = 7
"""The end token, which is the padding too."""
SIZES = (24, 17, 9, 13)
NAMES = (
    "llama, untied, grouped queries, own head_dim",
    "mistral, window shorter than the text",
)


@pytest.fixture(scope="module", autouse=True)
def without_warnings():
    with quiet():
        yield


@pytest.fixture(scope="module", params=NAMES)
def pair(request, tmp_path_factory):
    """A model of transformers, and the same of ours."""
    folder = tmp_path_factory.mktemp("case")
    return make(CASES[request.param], folder), *models.load(folder)


@pytest.fixture(scope="module")
def texts() -> list[list[int]]:
    """Tokens of texts with end tokens within, but for the first and the last place."""
    rng = np.random.default_rng(5)
    found = []
    for size in SIZES:
        ids = rng.integers(END + 1, VOCABULARY, size)
        ids[3::4] = END
        ids[-1] = END + 1
        found.append(ids.tolist())
    return found


def as_rows(texts, unseen) -> Rows:
    tokens = np.full((len(texts), 24), END, np.int32)
    labels = np.full_like(tokens, IGNORE)
    for row, ids in enumerate(texts):
        tokens[row, : len(ids)] = ids
        labels[row, : len(ids) - 1] = ids[1:]
    return Rows(tokens, labels, np.array(list(map(len, texts)), np.int32), unseen)


def logits_of(model, params, rows, packing=None):
    """Those of every text, as many as it has tokens."""
    part, sets = (rows, np.arange(len(rows)), {}), np.full(len(rows), RETAIN, np.int32)
    batch = assemble([part], sets) if packing is None else assemble_packed([part], sets, packing)
    logits = jax.jit(lambda p, b: models.apply_fn(model)(p, b).logits())
    found = np.asarray(logits(params, jax.tree.map(jnp.asarray, batch)))
    return [found[batch.segments == number] for number in range(1, len(rows) + 1)]


def test_a_likelihood_pass_gives_the_logits_of_transformers(pair, texts):
    theirs, model, params = pair
    rows = as_rows(texts, END)
    ids = torch.tensor(rows.tokens, dtype=torch.long)
    with torch.no_grad():
        wanted = theirs(ids, attention_mask=(ids != END).long()).logits.numpy()
    exact = logits_of(model, params, as_rows(texts, None))
    for got, want, other in zip(logits_of(model, params, rows), wanted, exact, strict=True):
        assert np.abs(got - want[: len(got)]).max() <= TOLERANCE
        assert np.abs(other - want[: len(got)]).max() > 100 * TOLERANCE, "so the test can fail"


def test_packed_texts_have_the_logits_of_padded_ones(pair, texts):
    _, model, params = pair
    # One that begins with the token that is not seen, as where a start token is the end token.
    texts = [*texts, [END, END, 20, 21, END, 22]]
    rows = as_rows(texts, END)
    packed = logits_of(model, params, rows, Packing(2, 40, 1.0))
    for got, want in zip(packed, logits_of(model, params, rows), strict=True):
        assert np.abs(got - want).max() <= TOLERANCE
    alone = logits_of(model, params, as_rows([[END, END]], None))[0]
    assert np.abs(packed[-1][:2] - alone).max() <= TOLERANCE, "it sees itself and no other text"


def test_greedy_answers_are_those_of_transformers(pair, texts):
    theirs, model, params = pair
    longest = max(map(len, texts))
    ids = torch.tensor([[END] * (longest - len(text)) + text for text in texts])
    settings = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": END}
    made = theirs.generate(ids, attention_mask=(ids != END).long(), **settings)
    wanted = made[:, longest:].tolist()
    asked = {"max_new_tokens": 12, "stop_ids": []}
    assert models.generate(model, params, texts, **asked, unseen=END) == wanted
    assert models.generate(model, params, texts, **asked) != wanted, "so the test can fail"


def test_a_prompt_that_nothing_of_is_seen_gets_an_answer_still(pair):
    _, model, params = pair
    (answer,) = models.generate(
        model, params, [[END, END]], max_new_tokens=3, stop_ids=[], unseen=END
    )
    assert len(answer) == 3


def test_splash_hides_what_the_others_hide():
    rng = np.random.default_rng(0)
    query, key, value = (jnp.asarray(rng.standard_normal((2, 128, 2, 8))) for _ in range(3))
    segments = jnp.asarray(np.repeat([[1, 2, 3, 0], [1, 1, 2, 2]], 32, axis=1), jnp.int32)
    unseen = jnp.asarray(rng.random((2, 128)) < 0.3).at[1, :3].set(True)
    queries, keys = hide(segments, unseen)
    wanted = attention(query, key, value, look(queries, keys), kernel="xla")
    got = splash_attention(query, key, value, segments=queries, key_segments=keys, interpret=True)
    real = np.asarray(segments) > 0
    assert np.abs(np.asarray(got) - np.asarray(wanted))[real].max() <= TOLERANCE


def test_an_unseen_token_moves_no_other_one_and_has_a_finite_gradient(pair, texts):
    _, model, params = pair
    ids = jnp.asarray([texts[0]])
    unseen = ids == END

    def total(params, ids):
        logits = model.apply({"params": params}, ids, unseen=unseen).logits()
        return jnp.sum(jnp.where(unseen[..., None], 0.0, logits)), logits

    (_, logits), slopes = jax.jit(jax.value_and_grad(total, has_aux=True))(params, ids)
    assert all(bool(jnp.isfinite(x).all()) for x in jax.tree.leaves(slopes))
    _, moved = jax.jit(total)(params, jnp.where(unseen, END + 3, ids))
    np.testing.assert_array_equal(logits[~unseen], moved[~unseen])
