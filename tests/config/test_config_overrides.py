# SPDX-License-Identifier: Apache-2.0
"""key=value arguments over a file, and what another method's name drops of it."""

import logging

import pytest
from config_mistakes import MINIMAL, lines

from unilogit_jax.config import load_config, read_config
from unilogit_jax.errors import ConfigError
from unilogit_jax.methods import METHODS


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


@pytest.mark.parametrize("order", [1, -1])
def test_a_mistyped_override_is_not_dropped_with_the_old_method(order):
    (line,) = lines("toy", *["method.name=npo", "method.bta=0.5"][::order])
    assert line == "override  unknown key 'method.bta'. Did you mean 'beta'?"


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


def test_swapping_a_method_of_which_the_file_says_nothing_more_notes_nothing(write):
    path = write(MINIMAL + "method: {name: unilogit}\n")
    loaded = read_config(path, "method.name=altpo")
    assert loaded.experiment.method == METHODS["altpo"]() and loaded.notes == ()


def test_keeping_the_method_drops_nothing_and_notes_nothing():
    loaded = read_config("toy", "method.name=unilogit", "method.tau=0.1")
    assert loaded.experiment.method.tau == 0.1 and loaded.notes == ()


def test_a_choice_that_the_new_method_does_not_have_is_dropped_unless_it_was_asked_for():
    loaded = load_config("toy", "method.name=rmu")
    assert loaded.method.retain == "hidden"
    with pytest.raises(ConfigError, match=r"method\.retain.*hidden"):
        load_config("toy", "method.name=rmu", "method.retain=nll")


def test_load_config_warns_of_what_it_dropped(caplog):
    with caplog.at_level(logging.WARNING, "unilogit_jax"):
        load_config("toy", "method.name=undial")
    assert "dropped direction, tau" in caplog.text


def test_a_check_across_keys_that_an_override_broke_says_so():
    assert lines("toy", "model.weights=w")[0].startswith("override  set exactly one of")
