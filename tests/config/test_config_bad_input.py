# SPDX-License-Identifier: Apache-2.0
"""Whatever stands in a config file or an override: it loads, or is refused as a ConfigError."""

import copy

import pytest
import yaml
from bad_input import few
from hypothesis import given
from hypothesis import strategies as st

from unilogit_jax.config import config_path, dump_config, read_config
from unilogit_jax.config.yaml_file import LARGEST
from unilogit_jax.errors import ConfigError

TOY = yaml.safe_load(config_path("toy").read_text())
ODD = [
    *(
        "!!python/object:os.system {}",
        "!!binary x",
        "!!bool x",
        "!!timestamp x",
        "!!int ''",
        "!x y",
    ),
    *(
        "&a [*a]",
        "<<: {a: 1}",
        "{<<: 1}",
        "? [a]",
        "1e999",
        ".nan",
        "-.inf",
        "2001-01-01",
        "=",
        "~",
    ),
    *(
        '"\\0"',
        '"\\ud800"',
        "1" * 5000,
        "0x" + "f" * 5000,
        "9" * 90,
        "-" + "9" * 90,
        "1:" * 300 + "1.5",
    ),
    *(
        "[[[",
        "{",
        "''",
        "1e308",
        "[npo]",
        "{name: []}",
        "os:system",
        ":",
        "..a:b",
        "\u2028",
        "{null: 1}",
    ),
]


def paths(tree, above=()):
    """Every key of a tree, and the items of its lists."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in items:
        yield (*above, key)
        if isinstance(value, dict | list):
            yield from paths(value, (*above, key))


PATHS = list(paths(TOY))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates()
    | st.binary(max_size=3) | st.sampled_from([10**80, -(10**80), 2**63, 0, -1, 1e308, "npo"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=4) | st.integers() | st.none(), inner, max_size=3),
    max_leaves=4,
)  # fmt: skip


def told(source, *overrides) -> str:
    """What is wrong; empty if it loads, and then what is written loads again."""
    try:
        experiment = read_config(source, *overrides).experiment
    except ConfigError as error:
        return str(error)
    again = yaml.safe_load(dump_config(experiment))
    assert isinstance(again, dict)
    return ""


@few(60)
@given(data=st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode()))
def test_any_bytes(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("any") / "c.yaml"
    path.write_bytes(data)
    assert "config error in" in told(path)


@few(60)
@given(path=st.sampled_from(PATHS), value=values)
def test_any_value_at_any_key(tmp_path_factory, path, value):
    tree = copy.deepcopy(TOY)
    at = tree
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    file = tmp_path_factory.mktemp("any") / "c.yaml"
    file.write_bytes(yaml.safe_dump(tree, allow_unicode=True).encode("utf-8", "surrogatepass"))
    told(file)


@few(60)
@given(
    key=st.sampled_from([".".join(map(str, path)) for path in PATHS]) | st.text(max_size=6),
    value=st.sampled_from(ODD) | st.text(max_size=6),
)
def test_any_override(key, value):
    told("toy", f"{key}={value}")


@pytest.mark.parametrize("value", ODD)
@pytest.mark.parametrize("key", ["unlearn.batch_size", "unlearn.retain_ratio", "method.name"])
def test_odd_values_where_they_hurt(key, value):
    told("toy", f"{key}={value}")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: !!bool x", "tags such as 'tag:yaml.org,2002:bool' are not read"),
        ("name: !!python/object:os.system {}", "tags such as"),
        ('name: "a\\0b"', "the character '\\x00' in a text"),
        ('name: "\\ud800"', "the character '\\ud800' in a text"),
        ("name: 0x" + "f" * 5000, "a number of 5002 characters"),
        ("x: " + "a" * LARGEST, "a configuration has at most"),
        ("unlearn: {batch_size: 10000000000}", "wants a number of at most 1e+09"),
        ("\n".join(f"k{i}: 1" for i in range(3000)), "mistakes, of which the first 100 follow"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, text, words):
    (tmp_path / "c.yaml").write_text(text)
    assert words in told(tmp_path / "c.yaml")


def test_an_override_of_endless_depth_and_a_name_of_endless_length_are_refused():
    assert "not of the form key=value" in told("toy", "a." * 100_000 + "b=1")
    assert "there is no config file" in told("x" * 5000)
