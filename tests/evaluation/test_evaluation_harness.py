# SPDX-License-Identifier: Apache-2.0
"""The adapter to lm-evaluation-harness gives the numbers of its own class for transformers."""

import warnings

import jax
import pytest
from lm_eval.api.instance import Instance

from unilogit_jax import models
from unilogit_jax.data import train_tokenizer
from unilogit_jax.evaluation.harness import HarnessModel
from unilogit_jax.sharding import make_mesh

TEXT = "Ann lives in Oslo and works as a baker. Bo lives in Rome, and Bo sings. 1 2 3 4"
LENGTH = 48
PAIRS = [
    ("Where does Ann live?", " In Oslo."),
    ("Where does Ann live? ", "In Rome."),
    ("", "Bo sings."),
    ("Ann lives in Oslo. " * 8, "Bo lives in Rome."),
    ("Who?", " Bo lives in Rome, and Ann. " * 2),
    ("<s>Who?", " Ann"),
]
CHAT = "{% for m in messages %}[{{ m.role }}] {{ m.content }}{{ eos_token }}{% endfor %}[assistant]"


def of(kind, args):
    return [Instance(kind, {}, one, k) for k, one in enumerate(args)]


@pytest.fixture(scope="module", params=[None, "<s>"])
def both(request, tmp_path_factory):
    """The harness's own class and ours, of one small model; with a start token and without."""
    folder = tmp_path_factory.mktemp("harness") / "model"
    tokenizer = train_tokenizer([TEXT] * 9, vocab_size=300)
    if request.param:
        tokenizer.add_special_tokens({"bos_token": request.param})
        from tokenizers import processors

        start = (request.param, tokenizer.bos_token_id)
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{request.param} $A", special_tokens=[start]
        )
    tokenizer.chat_template = CHAT
    config = models.DecoderConfig.scratch(
        vocab_size=len(tokenizer), width=32, layers=2, heads=2, max_length=LENGTH
    )
    mesh = make_mesh()
    model, params = models.init(config, jax.random.key(0), mesh=mesh)
    params = jax.tree.map(lambda x: 2 * x, params)  # farther from uniform, so that errors show
    models.save(folder, model, params)
    tokenizer.save_pretrained(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from lm_eval.models.huggingface import HFLM

        theirs = HFLM(str(folder), device="cpu", dtype="float32", batch_size=2, max_length=LENGTH)
    return theirs, HarnessModel(model, params, tokenizer, mesh=mesh, batch_size=8)


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore")
def test_likelihoods_are_those_of_the_harness(both):
    theirs, ours = both
    requests = of("loglikelihood", PAIRS)
    for (wanted, greedy), (found, hit) in zip(
        theirs.loglikelihood(requests, disable_tqdm=True),
        ours.loglikelihood(requests, disable_tqdm=True),
        strict=True,
    ):
        assert found == pytest.approx(wanted, abs=2e-4) and hit == greedy


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore")
def test_likelihoods_of_whole_texts_are_those_of_the_harness(both):
    theirs, ours = both
    requests = of("loglikelihood_rolling", [(TEXT,), (TEXT * 3,), ("Bo",)])
    wanted = theirs.loglikelihood_rolling(requests, disable_tqdm=True)
    assert ours.loglikelihood_rolling(requests) == pytest.approx(wanted, abs=5e-4)


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore")
def test_answers_are_those_of_the_harness(both):
    theirs, ours = both
    wishes = [
        {"until": ["\n\n"], "max_gen_toks": 9, "do_sample": False},
        {"until": "e", "max_gen_toks": 7},
        {"until": [], "max_gen_toks": 9, "do_sample": False},
    ]
    asked = [(context, wish) for wish in wishes for context, _ in PAIRS if context]
    requests = of("generate_until", asked)
    assert ours.generate_until(requests) == theirs.generate_until(requests, disable_tqdm=True)


def test_a_conversation_is_what_the_harness_makes_of_it(both):
    theirs, ours = both
    turns = [{"role": "user", "content": "Who?"}]
    assert ours.apply_chat_template(turns) == theirs.apply_chat_template(turns)
    assert ours.apply_chat_template(turns) == "[user] Who?<|end|>[assistant]"


def test_nothing_asked_is_nothing_answered(both):
    _, ours = both
    assert ours.loglikelihood([], disable_tqdm=True) == ours.generate_until([]) == []
