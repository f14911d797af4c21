# SPDX-License-Identifier: Apache-2.0
"""Reading experiment files: every mistake is named with its place, and nothing is swallowed."""

import logging
import re

import pytest
import yaml

from unilogit_jax.config import config_names, config_path, dump_config, load_config, read_config
from unilogit_jax.errors import ConfigError
from unilogit_jax.methods import METHODS

MINIMAL = """\
name: small
model: {scratch: {}}
data: {benchmark: toy}
"""


@pytest.fixture
def write(tmp_path):
    """Writes a config file and returns its path."""

    def write(text: str | bytes, name: str = "mine.yaml"):
        path = tmp_path / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write


def message(source, *overrides) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(source, *overrides)
    return str(caught.value)


def lines(source, *overrides) -> list[str]:
    """The problems, without the headline."""
    return [line.strip() for line in message(source, *overrides).splitlines()[1:]]


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


def test_a_check_across_keys_that_an_override_broke_says_so():
    assert lines("toy", "model.weights=w")[0].startswith("override  set exactly one of")


def test_repeated_keys_are_refused_at_every_depth(write):
    path = write(MINIMAL + "unlearn:\n  steps: 1\n  steps: 2\nname: other\nmesh: {x: 1}\n")
    assert lines(path, "mesh.data=x", "name") == [
        "line 6  'unlearn.steps' is already set in line 5.",
        "line 7  'name' is already set in line 1.",
        "line 8  unknown key 'mesh.x'. Keys here: data, fsdp, tensor.",
        "override  'name' is not of the form key=value, such as unlearn.steps=60.",
        "override  'mesh.data' wants a whole number, got 'x'.",
    ]


def test_keys_of_two_sections_with_the_same_name_are_no_repetition(write):
    load_config(write(MINIMAL + "finetune: {steps: 1}\nunlearn: {steps: 1}\n"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"name: a: b\n", "line 1  not valid YAML: a second ':' in one line"),
        (b"name: a\n\tmodel: b\n", "line 2  not valid YAML: a tab"),
        (b"name: a\nmesh: {data: 1\n", "line 3  not valid YAML: "),
        (b"name: !!python/name:os.system a\n", "line 1  not valid YAML: "),
        (b"name: &a x\nother: *a\n", "line 2  not valid YAML: anchors"),
        (b"name: a\n---\nname: b\n", "line 2  not valid YAML: "),
        (b"? [a]\n: b\n", "line 1  not valid YAML: "),
        (b"name: a\nmodel: \x00\n", "line 2  not valid YAML: a control character"),
        (b"name: !!int x\n", "line 1  not valid YAML: tags"),
        (b"[" * 1000, "file  not valid YAML: nested too deeply"),
    ],
)
def test_text_that_is_not_yaml_gets_one_line(write, text, expected):
    (line,) = lines(write(text))
    assert line.startswith(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"", "holds no keys"),
        (b"# only a comment\n", "holds no keys"),
        (b"- a\n- b\n", "it holds a list"),
        (b"hello\n", "it holds a single value"),
        ("name: caf\u00e9".encode("latin-1"), "not UTF-8 text (byte 9)"),
    ],
)
def test_a_file_of_another_kind_is_refused_in_one_sentence(write, text, expected):
    said = message(write(text))
    assert expected in said and "\n" not in said and "mine.yaml" in said


def test_numbers_that_yaml_takes_for_text_are_read(write):
    experiment = load_config(
        write(MINIMAL + "unlearn: {learning_rate: 1e-5}"), "finetune.learning_rate=3e-4"
    )
    assert (experiment.unlearn.learning_rate, experiment.finetune.learning_rate) == (1e-5, 3e-4)


def test_a_date_and_a_byte_order_mark_do_no_harm(write):
    text = "\ufeff" + MINIMAL.replace("small", "2026-11-23")
    assert load_config(write(text)).name == "2026-11-23"


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("unlearn.stepz=1", "unknown key 'unlearn.stepz'. Did you mean 'steps'?"),
        ("unlearn.steps", "'unlearn.steps' is not of the form key=value"),
        ("unlearn..steps=1", "'unlearn..steps=1' is not of the form key=value"),
        ("unlearn.steps=[", "the value of 'unlearn.steps' is not valid YAML"),
        ("unlearn.batch_size=", "'unlearn.batch_size' wants a whole number, got nothing."),
        ("name.x=1", "'name.x': 'name' is a value and has no keys."),
        ("mesh={data: 1, data: 2}", "'mesh' names 'data' twice."),
        ("method.name=npoo", "unknown method 'npoo'. Did you mean 'npo'?"),
        ("method.retain_weight=true", "'method.retain_weight' wants a number, got true."),
        ("compare=[{name: npo, bta: 1}]", "unknown key 'compare.0.bta'. Did you mean 'beta'?"),
    ],
)
def test_a_mistake_in_an_override_is_called_one(override, expected):
    (line,) = lines("toy", override)
    assert line.startswith(f"override  {expected}")


def test_two_overrides_below_one_unknown_section_are_both_named():
    assert len(lines("toy", "unlern.steps=1", "unlern.epochs=2")) == 2


def test_overrides_take_yaml_values_in_order_and_make_sections(write):
    path = write(MINIMAL.replace("{scratch: {}}", ""))
    experiment = load_config(
        path, "model.scratch.width=64", "data.dir=null", "name=a", "name=b=c", "eval.gold=true"
    )
    assert experiment.model.scratch is not None and experiment.model.scratch.width == 64
    assert experiment.name == "b=c" and experiment.eval.gold is True


@pytest.mark.parametrize("order", [1, -1])
def test_swapping_the_method_drops_what_the_new_one_does_not_know_and_says_so(order):
    overrides = ["method.name=npo", "method.beta=0.5"][::order]
    loaded = read_config("toy", *overrides)
    assert loaded.experiment.method == METHODS["npo"](beta=0.5, retain_weight=4.0)
    assert loaded.notes == (
        "method unilogit -> npo; dropped direction, tau, tau_weights, tau_names, tau_mean, "
        "alternatives, top_k, select, unit; kept from the file: retain_weight 4.0",
    )


@pytest.mark.parametrize("order", [1, -1])
def test_a_mistyped_override_is_not_dropped_with_the_old_method(order):
    (line,) = lines("toy", *["method.name=npo", "method.bta=0.5"][::order])
    assert line == "override  unknown key 'method.bta'. Did you mean 'beta'?"


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


def test_keeping_the_method_drops_nothing_and_notes_nothing():
    loaded = read_config("toy", "method.name=unilogit", "method.tau=0.1")
    assert loaded.experiment.method.tau == 0.1 and loaded.notes == ()


def test_load_config_warns_of_what_it_dropped(caplog):
    with caplog.at_level(logging.WARNING, "unilogit_jax"):
        load_config("toy", "method.name=undial")
    assert "dropped direction, tau" in caplog.text


@pytest.mark.parametrize("name", config_names())
def test_every_packaged_config_loads_and_is_complete(name):
    experiment = load_config(name)
    written = yaml.safe_load(config_path(name).read_text())
    complete = yaml.safe_load(dump_config(experiment))
    assert key_paths(written) == key_paths(complete)


@pytest.mark.parametrize("method", METHODS)
def test_a_dumped_config_is_read_back_unchanged(write, method):
    experiment = load_config(
        "toy",
        f"method.name={method}",
        "compare=[{name: npo, beta: 0.3}, {name: undial}]",
        "name='1e-5: \u00e9 # \U0001f600'",
        "unlearn.learning_rate=1.25e-7",
        "output.dir='  no '",
    )
    assert load_config(write(dump_config(experiment))) == experiment


def test_a_file_wins_over_a_packaged_name_and_a_folder_does_not(write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy").mkdir()
    assert load_config("toy").name == "toy"
    (tmp_path / "toy").rmdir()
    write(MINIMAL, "toy")
    assert load_config("toy").name == "small"


def test_a_missing_file_is_answered_with_near_names(write, tmp_path):
    write(MINIMAL)
    assert "Did you mean 'mine.yaml'?" in message(tmp_path / "mein.yaml")
    assert "Did you mean 'toy'? Packaged configs: " in message("tpy")
    assert "Did you mean 'toy'?" in message(tmp_path / "none" / "toi.yaml")
    with pytest.raises(ConfigError, match="Did you mean 'toy'"):
        config_path("toi")


def test_a_run_folder_is_answered_with_its_config(write, tmp_path):
    assert message(tmp_path) == f"'{tmp_path}' is a folder, not a config file."
    path = write(MINIMAL, "config.yaml")
    assert message(tmp_path).endswith(f"Did you mean '{path}'?")


def key_paths(tree, above=()):
    """All paths of keys, through sections."""
    found = set()
    for key, value in tree.items():
        found |= {(*above, key)} | (
            key_paths(value, (*above, key)) if isinstance(value, dict) else set()
        )
    return found


def test_microbatches_have_to_divide_the_rows_of_an_update(write):
    text = MINIMAL + "unlearn: {batch_size: 6, retain_ratio: 0.5, microbatches: 2}"
    (line,) = lines(write(text))
    assert "unlearn.microbatches 2 does not divide the 9 rows of an update" in line


def test_other_answers_count_as_rows_of_an_update(write):
    text = MINIMAL + "method: {name: dpo}\nunlearn: {batch_size: 4, microbatches: 8}"
    (line,) = lines(write(text))
    assert "microbatches 8 does not divide the 12 rows of an update of method dpo" in line


def test_a_choice_that_the_new_method_does_not_have_is_dropped_unless_it_was_asked_for():
    loaded = load_config("toy", "method.name=rmu")
    assert loaded.method.retain == "hidden"
    with pytest.raises(ConfigError, match=r"method\.retain.*hidden"):
        load_config("toy", "method.name=rmu", "method.retain=nll")
