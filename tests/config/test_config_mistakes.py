# SPDX-License-Identifier: Apache-2.0
"""Every mistake in a config is named with its place, all at once, with what was meant."""

import re

import pytest
from config_mistakes import MINIMAL, lines, message

from unilogit_jax.config import load_config
from unilogit_jax.errors import ConfigError


def test_all_errors_come_at_once_with_lines_in_file_order(write):
    path = write(
        MINIMAL
        + "method:\n  name: npo\n  bta: 0.1\nunlearn:\n  steps: few\n  learning_rate: fast\n"
    )
    assert message(path, "unlern.steps=3").splitlines() == [
        f"config error in {path}",
        "  line 6  unknown key 'method.bta'. Did you mean 'beta'?",
        "  line 8  'unlearn.steps' wants a whole number, got 'few'.",
        "  line 9  'unlearn.learning_rate' wants a number, got 'fast'.",
        "  override  unknown key 'unlern.steps'. Did you mean 'unlearn'?",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sed: 1", "line 4  unknown key 'sed'. Keys here: name, model, "),
        (
            "epochs: 1",
            "line 4  unknown key 'epochs'. Did you mean 'finetune.epochs' or 'unlearn.epochs'?",
        ),
        ("no: 1", "line 4  unknown key 'no'."),
        ("7: 1", "line 4  unknown key '7'."),
        ("mesh: {dat: 1}", "line 4  unknown key 'mesh.dat'. Did you mean 'data'?"),
        ("unlearn: {steps: 0}", "line 4  'unlearn.steps' wants a number of at least 1, got 0."),
        ("unlearn: {steps: true}", "line 4  'unlearn.steps' wants a whole number, got true."),
        ("unlearn: {steps: 3.0}", "line 4  'unlearn.steps' wants a whole number, got 3.0."),
        (
            "unlearn: {learning_rates: {embed: yes}}",
            "line 4  'unlearn.learning_rates.embed' wants a number, got true.",
        ),
        (
            "unlearn: {learning_rates: {embed: 0}}",
            "line 4  'unlearn.learning_rates.embed' wants a number above 0, got 0.",
        ),
        ("unlearn: {trainable: embed}", "line 4  'unlearn.trainable' wants a list, got 'embed'."),
        ("unlearn: {clip: yes}", "line 4  'unlearn.clip' wants a number, got true."),
        ("unlearn: {clip: .inf}", "line 4  'unlearn.clip' wants a finite number, got inf."),
        ("unlearn: {warmup: 1}", "line 4  'unlearn.warmup' wants a number below 1, got 1."),
        (
            "unlearn: {learning_rate: 0}",
            "line 4  'unlearn.learning_rate' wants a number above 0, got 0.",
        ),
        (
            "unlearn: {schedule: cosin}",
            "line 4  'unlearn.schedule' wants one of 'constant', 'linear' or 'cosine', "
            "got 'cosin'. Did you mean 'cosine'?",
        ),
        ("eval: {gold: 1}", "line 4  'eval.gold' wants true or false, got 1."),
        ("output: {dir: 3}", "line 4  'output.dir' wants text, got 3. Put it in quotes."),
        ("mesh:", "line 4  'mesh' wants keys of its own (data, fsdp, tensor), got nothing."),
        ("mesh: [1]", "line 4  'mesh' wants keys of its own (data, fsdp, tensor), got a list."),
        ("method: {beta: 1}", "line 4  missing key 'method.name', one of "),
        (
            "method: npo",
            "line 4  'method' wants keys of its own (name), got 'npo'. Write {name: npo}.",
        ),
        ("method: {name: npoo}", "line 4  unknown method 'npoo'. Did you mean 'npo'? Methods: "),
        ("method: {name: npo, beta: yes}", "line 4  'method.beta' wants a number, got true."),
        ("compare: 3", "line 4  'compare' wants a list, got 3."),
        ("compare:\n- {name: npo}\n- {name: npo, bta: 1}", "line 6  unknown key 'compare.1.bta'."),
        ("compare:\n- name: npo\n  beta: no", "line 6  'compare.0.beta' wants a number, got f"),
    ],
)
def test_each_mistake_gets_its_line_and_its_sentence(write, text, expected):
    (line,) = lines(write(MINIMAL + text))
    assert line.startswith(expected)


def test_the_tag_that_pydantic_adds_is_not_shown(write):
    (line,) = lines(write(MINIMAL + "method: {name: undial, beta: x}"))
    assert "'method.beta'" in line and "undial" not in line


def test_a_value_of_several_types_gets_one_line():
    (line,) = lines("toy", "method.tau=ngrma")
    wants = "'uniform', 'ngram', 'name_swap', 'reference' or 'own' or a number"
    text = f"override  'method.tau' wants one of {wants}, got 'ngrma'. Did you mean 'ngram'?"
    assert line == text
    (line,) = lines("toy", "method.tau=[1]")
    assert line == f"override  'method.tau' wants one of {wants}, got a list."


def test_options_that_do_not_go_together_get_a_line_at_the_first_that_was_written():
    (line,) = lines("toy", "method.select=true", "method.alternatives=initial")
    wanted = "select=true with alternatives=initial needs direction=forward."
    assert line == f"override  'method': {wanted}"


def test_missing_sections_are_all_named(write):
    assert lines(write("name: x")) == ["file  missing key 'model'.", "file  missing key 'data'."]


@pytest.mark.parametrize("name", ["tofu", "muse"])
def test_checks_across_keys_come_one_per_line_at_the_keys_they_name(write, name):
    text = f"name: x\nmodel:\n  weights: w\n  scratch: {{}}\ndata:\n  benchmark: {name}\n"
    found = lines(write(text))
    assert found[0].startswith("line 3  set exactly one of model.weights and model.scratch")
    assert found[1].startswith(f"line 6  data.benchmark {name} needs data.dir")


@pytest.mark.parametrize(
    ("benchmark", "keys"),
    [
        ("files", {"forget"}),
        ("tofu", {"dir"}),
        ("rwku", {"dir", "forget"}),
        ("wmdp", {"dir", "forget"}),
        ("shop", set()),
    ],
)
def test_what_a_benchmark_cannot_do_without_is_asked_for(benchmark, keys):
    def found(*overrides):
        try:
            load_config("toy", f"data.benchmark={benchmark}", *overrides)
        except ConfigError as error:
            return set(re.findall(r"needs data\.(\w+)", str(error)))
        return set()

    assert found() == keys
    assert found("data.dir=d", "data.forget=f") == set()


def test_microbatches_have_to_divide_the_rows_of_an_update(write):
    text = MINIMAL + "unlearn: {batch_size: 6, retain_ratio: 0.5, microbatches: 2}"
    (line,) = lines(write(text))
    assert "unlearn.microbatches 2 does not divide the 9 rows of an update" in line


def test_other_answers_count_as_rows_of_an_update(write):
    text = MINIMAL + "method: {name: dpo}\nunlearn: {batch_size: 4, microbatches: 8}"
    (line,) = lines(write(text))
    assert "microbatches 8 does not divide the 12 rows of an update of method dpo" in line
