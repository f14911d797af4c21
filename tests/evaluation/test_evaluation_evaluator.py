# SPDX-License-Identifier: Apache-2.0
"""Panels measured as they say: what is asked, scored, stopped and cut."""

import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import optax
import pytest

import unilogit_jax.evaluation.evaluator as evaluator_file
from unilogit_jax import metrics, models
from unilogit_jax.data import Panel, Probe, Task, encode_probes, train_tokenizer
from unilogit_jax.errors import DataError
from unilogit_jax.evaluation import Answer, Evaluator, gradient_norms, make_scorer
from unilogit_jax.evaluation.answers import cut_answer
from unilogit_jax.sharding import make_mesh

TEXT = "Ann lives in Oslo and works as a baker. Bo lives in Rome."


@pytest.fixture(scope="module")
def small():
    """A tokenizer, a small model and its weights, a mesh."""
    tokenizer = train_tokenizer([TEXT] * 20, vocab_size=300)
    config = models.DecoderConfig.scratch(vocab_size=300, width=16, layers=1, heads=2)
    mesh = make_mesh(devices=jax.devices()[:1])
    return tokenizer, *models.init(config, jax.random.key(0), mesh=mesh), mesh


@pytest.fixture(scope="module")
def evaluator_of(small):
    """A function that makes the evaluator of some probes, their panels given."""
    tokenizer, model, _, mesh = small

    def make(*probes, panels, suite="", **options):
        task = Task("t", (), (), probes, panels=panels, suite=suite)
        options = {"max_new_tokens": 3, "batch_size": 2, **options}
        return Evaluator(model, tokenizer, task, mesh=mesh, **options)

    return make


@pytest.fixture(scope="module")
def measure(small, evaluator_of):
    """A function that evaluates probes, their panels given."""

    def run(*probes, panels, said=None, suite=""):
        evaluator = evaluator_of(*probes, panels=panels, suite=suite)
        if said is not None:
            evaluator.answers = lambda params, prompts, panel=None, begun=None, progress=None: (
                [Answer(said, True)] * len(prompts)
            )
        return evaluator(small[2]).items, small[0]

    return run


def test_a_panel_says_what_is_generated_and_what_is_scored(measure):
    panels = (
        Panel(name="both"),
        Panel(name="scored", new_tokens=0),
        Panel(name="asked", scored=False),
    )
    probes = [Probe("Who?", "Ann.", p.name, wrong=("Bo.",)) for p in panels]
    plain = Probe(None, TEXT, "scored")
    (both, scored, asked, text), _ = measure(*probes, plain, panels=panels)
    assert both.answer is not None and both.nll is not None and len(both.wrong_nll) == 1
    assert scored.answer is None and scored.nll == both.nll
    assert asked.answer == both.answer and asked.nll is None and asked.wrong_nll == ()
    assert text.answer is None and text.question is None and text.nll > 0


def test_a_continued_passage_is_compared_as_far_as_it_is_generated(measure):
    probe = Probe("Ann lives", f" {TEXT}", "verbmem", literal=True)
    (item,), tokenizer = measure(probe, panels=(Panel(name="verbmem", new_tokens=4),))
    ids = tokenizer(f" {TEXT}", add_special_tokens=False)["input_ids"]
    assert item.truth == tokenizer.decode(ids[:4]) and len(ids) > 4
    whole = Probe("Ann lives?", TEXT, "verbmem")
    (item,), _ = measure(whole, panels=(Panel(name="verbmem", new_tokens=4),))
    assert item.truth == TEXT, "an answer to a question is no passage"


def test_what_the_pass_has_shown_is_not_generated_again(monkeypatch):
    tokenizer = train_tokenizer([TEXT] * 20, vocab_size=300)
    config = models.DecoderConfig.scratch(vocab_size=300, width=16, layers=1, heads=2)
    mesh = make_mesh(devices=jax.devices()[:1])
    model, params = models.init(config, jax.random.key(0), mesh=mesh)
    known, other = (Probe("Who?", text, "long") for text in (f"{TEXT}", "Ann lives in Rome."))
    rows = encode_probes(tokenizer, [(known, known.answer)], template="plain")
    optimizer = optax.adam(1e-2)

    @jax.jit
    def memorise(params):
        def loss(params):
            logits = model.apply({"params": params}, jnp.asarray(rows.tokens)).logits()
            each = optax.softmax_cross_entropy_with_integer_labels(logits, rows.labels)
            return jnp.sum(jnp.where(rows.labels >= 0, each, 0.0))

        def update(_, now):
            params, state = now
            change, state = optimizer.update(jax.grad(loss)(params), state)
            return optax.apply_updates(params, change), state

        return jax.lax.fori_loop(0, 150, update, (params, optimizer.init(params)))[0]

    params, begun = memorise(params), []

    def spy(*args, **options):
        begun.append([len(tokens) for tokens in options["begun"]])
        return generate(*args, **options)

    generate = evaluator_file.generate
    monkeypatch.setattr(evaluator_file, "generate", spy)
    panels = Panel(name="long", new_tokens=40), Panel(name="short", new_tokens=2)
    probes = known, other, replace(known, group="short")
    task = Task("t", (), (), probes, panels=panels)
    evaluator = Evaluator(model, tokenizer, task, mesh=mesh, template="plain")
    items = evaluator(params).items
    # All of the known answer with its end, what both have in common, and no more than is wanted.
    assert begun == [[int((rows.labels >= 0).sum()), 4], [2]]
    assert [item.answer for item in items] == [TEXT, TEXT, "Ann"]
    assert items[0].exact and not items[1].exact and not items[0].malformed


def test_an_answer_counts_by_the_true_one_that_it_fits_best(measure):
    probe = Probe("Who?", "Nobody at all.", "forget", answers=("Ann Lee",))
    (item,), _ = measure(probe, panels=(Panel(name="forget"),), said="Ann Lee")
    assert item.rouge_l == 1.0 and item.others == ("Ann Lee",)


def test_a_suite_gets_numbers_of_tokens_and_words(measure):
    probes = Probe("Who?", "Ann lives in Oslo.", "forget"), Probe(None, TEXT, "holdout")
    panels = (Panel(name="forget"), Panel(name="holdout", new_tokens=0))
    items, _ = measure(*probes, panels=panels, said="Ann lives", suite="tofu")
    for item in items:
        scores = item.scores
        assert scores["mia_loss"] == item.nll and scores["mia_zlib"] < item.nll
        assert scores["mia_min_k"] >= scores["mia_loss"], "the least expected tokens"
        assert 0 <= scores["extraction_strength_exact"] <= scores["extraction_strength"] <= 1
    assert items[0].scores["rouge1_recall"] == 0.5 and "rouge1_recall" not in items[1].scores


TWO = (Panel(name="forget", new_tokens=0), Panel(name="holdout", new_tokens=0))
"""Panels whose likelihoods an attack compares."""


def test_every_answer_has_its_number_of_tokens(measure):
    probe = Probe("Who?", "Ann.", "forget", wrong=("Bo lives in Rome.", "Bo."), paraphrase=TEXT)
    (item,), tokenizer = measure(probe, panels=TWO)
    texts = "Ann.", "Bo lives in Rome.", "Bo."
    # A space before the answer and the end token after it.
    counts = [len(tokenizer(f" {x}", add_special_tokens=False)["input_ids"]) + 1 for x in texts]
    assert [item.tokens, *item.wrong_tokens] == counts and len(set(counts)) > 1


@pytest.mark.parametrize("suite", ["", "tofu"])
def test_rows_without_a_suite_have_scores_where_some_were_never_seen(small, monkeypatch, suite):
    from unilogit_jax.evaluation import evaluator as module

    asked = []

    def scorer(*args, moments, **options):
        asked.append(moments)
        return make_scorer(*args, moments=moments, **options)

    monkeypatch.setattr(module, "make_scorer", scorer)
    tokenizer, model, params, mesh = small
    probes = Probe("Who?", "Ann lives in Oslo.", "forget"), Probe(None, TEXT, "holdout")
    task = Task("t", (), (), probes, panels=TWO, suite=suite)
    items = Evaluator(model, tokenizer, task, mesh=mesh, batch_size=2)(params).items
    assert asked == [bool(suite)], "the moments cost a product of their own"
    for item in items:
        assert item.scores["mia_min_k"] >= item.scores["mia_loss"] == item.nll
        assert ("mia_min_k_plus_plus" in item.scores) == bool(suite)
        assert "mia_gradnorm" not in item.scores
    rows = encode_probes(tokenizer, [(probe, probe.answer) for probe in probes])
    logprobs = make_scorer(models.apply_fn(model), batch_size=2, mesh=mesh)(params, rows).logprobs
    for item, own in zip(items, logprobs, strict=True):
        assert item.scores["mia_min_k"] == pytest.approx(metrics.min_k(own), rel=1e-6)


def test_gradient_norms_are_those_of_the_true_answers_of_two_panels(small, evaluator_of):
    tokenizer, model, params, mesh = small
    more = {"wrong": ("Bo.", "Bo lives in Rome."), "paraphrase": "It is Ann."}
    probes = (
        Probe("Who?", "Ann.", "forget", **more),
        Probe("Where?", "Bo lives in Rome.", "retain", **more),
        Probe("Where?", "Ann lives in Oslo.", "forget", **more),
        Probe(None, TEXT, "retain"),
        Probe("What?", "Bo works as a baker.", "holdout"),
    )
    panels = (*TWO, Panel(name="retain", new_tokens=0))
    evaluator = evaluator_of(*probes, panels=panels, suite="tofu", grad_norm=True)
    for item, probe in zip(evaluator(params).items, probes, strict=True):
        assert ("mia_gradnorm" in item.scores) == (item.group != "retain")
        if item.group != "retain":
            rows = encode_probes(tokenizer, [(probe, probe.answer)])
            (wanted,) = gradient_norms(models.apply_fn(model), params, rows, mesh=mesh)
            assert item.scores["mia_gradnorm"] == pytest.approx(wanted, rel=1e-5)
    without = evaluator(params, grad_norm=False).items
    assert not any("mia_gradnorm" in item.scores for item in without)


def test_gradient_norms_of_data_without_two_sides_are_refused(evaluator_of):
    with pytest.raises(DataError, match=r"t has none of these here.*holdout"):
        evaluator_of(Probe("Who?", "Ann.", "forget"), panels=TWO[:1], grad_norm=True)


def test_stops_end_an_answer():
    assert cut_answer("Ann.\nQuestion: Who?", ("\nQuestion", "\n\n"), ended=False) == ("Ann.", True)
    assert cut_answer(" Ann ", ("\n",), ended=False) == ("Ann", False)


def test_a_question_longer_than_any_row_of_training_keeps_its_answer(small, evaluator_of):
    panels = (Panel(name="mmlu", new_tokens=0), Panel(name="mia", new_tokens=0))
    long = Probe(f"{TEXT * 3} Who?", "Ann.", "mmlu", wrong=("Bo.",), opening="Answer:")
    probes = long, Probe(None, TEXT, "mia")
    cut, text = evaluator_of(*probes, panels=panels, max_length=8)(small[2]).items
    whole, _ = evaluator_of(*probes, panels=panels, max_length=512)(small[2]).items
    assert cut.nll == pytest.approx(whole.nll) and cut.wrong_nll == pytest.approx(whole.wrong_nll)
    assert text.tokens == 7, "a text is cut as ever"
    with pytest.raises(DataError, match="no answer token is left after cutting to 2048"):
        evaluator_of(replace(long, question=TEXT * 200), panels=panels[:1])


def test_an_answer_that_the_model_has_no_room_for_is_refused_at_once(evaluator_of):
    probe, panels = Probe("Who?", "Ann.", "forget"), (Panel(name="forget"),)
    said = r"forget: a question has (\d+) tokens.*up to 2040.*\(2048\): lower eval.max_new_tokens"
    with pytest.raises(DataError, match=said) as caught:
        evaluator_of(probe, panels=panels, max_new_tokens=2040)
    most = int(re.search(r"to (\d+)\.$", str(caught.value))[1])
    evaluator_of(probe, panels=panels, max_new_tokens=most)
    with pytest.raises(DataError, match="longest row"):
        evaluator_of(probe, panels=panels, max_new_tokens=most + 1)


def test_answers_that_the_pass_has_given_count_as_done(small, evaluator_of):
    evaluator, told = evaluator_of(Probe("Who?", "Ann.", "a"), panels=(Panel(name="a"),)), []
    evaluator.answers = lambda params, prompts, **_: [Answer("Ann.", True)] * len(prompts)
    evaluator(small[2], progress=lambda *done: told.append(done))
    assert told[-1] == ("answers", 1, 1)
