# SPDX-License-Identifier: Apache-2.0
"""Reading experiment files: what they hold, which file is meant, and nothing is swallowed."""

import pytest
import yaml
from config_mistakes import MINIMAL, lines, message

from unilogit_jax.config import config_names, config_path, dump_config, load_config
from unilogit_jax.errors import ConfigError
from unilogit_jax.methods import METHODS


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
