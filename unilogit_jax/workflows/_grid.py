# SPDX-License-Identifier: Apache-2.0
"""The runs of a sweep: every combination of values, and of lists of settings."""

from collections.abc import Sequence
from itertools import product

import yaml

from unilogit_jax.errors import ConfigError


def combinations(
    over: Sequence[str], each: Sequence[str] = (), seeds: Sequence[int] = ()
) -> list[tuple[str, ...]]:
    """The overrides of every run, the last key changing fastest.

    Args:
      over: `key=value,value,...` each; a value with commas stands in brackets or quotes, as YAML
        has it.
      each: settings that go together, `key=value key=value` each; every run has one of them.
      seeds: values of `output.seed`.

    Raises:
      ConfigError: one is not of that form, a key is there twice, or there is one run only.

    Example:
      >>> for words in combinations(["unlearn.steps=10,20"], ["method.name=npo method.beta=0.5"]):
      ...     print(*words)
      method.name=npo method.beta=0.5 unlearn.steps=10
      method.name=npo method.beta=0.5 unlearn.steps=20

    """
    axes = [[tuple(words.split()) for words in each]] if each else []
    keys = []
    for text in over:
        key, values = _values(text)
        keys.append(key)
        axes.append([(f"{key}={value}",) for value in values])
    if seeds:
        keys.append("output.seed")
        axes.append([(f"output.seed={seed}",) for seed in seeds])
    keys += {word.partition("=")[0] for words in each for word in words.split()}
    if twice := [key for key in keys if keys.count(key) > 1]:
        raise ConfigError(f"{twice[0]} is there twice: give all of its values at once.")
    found = [tuple(word for part in parts for word in part) for parts in product(*axes)]
    if len(set(found)) < 2:
        raise ConfigError(
            "a sweep has two runs at least: give --over KEY=VALUE,VALUE, --each or --seeds, as in "
            "--over unlearn.learning_rate=1e-5,2e-5 --seeds 0,1,2."
        )
    return list(dict.fromkeys(found))


def _values(text: str) -> tuple[str, list[str]]:
    """The key, and each of its values as YAML."""
    key, equals, values = text.partition("=")
    form = f"--over {text}: write KEY=VALUE,VALUE, such as unlearn.learning_rate=1e-5,2e-5."
    if not equals or not key or not values:
        raise ConfigError(form)
    try:
        node = yaml.compose(f"[{values}]")
    except yaml.YAMLError as error:
        raise ConfigError(form) from error
    assert isinstance(node, yaml.SequenceNode)
    # As written, so that 1e-5 reaches the configuration the way a single override does.
    return key, [f"[{values}]"[n.start_mark.index : n.end_mark.index] for n in node.value]
