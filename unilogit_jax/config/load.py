# SPDX-License-Identifier: Apache-2.0
"""Reads an experiment from YAML with overrides, reports all errors at once, writes it back."""

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import yaml
from pydantic import ValidationError

from unilogit_jax.config.overrides import apply_overrides
from unilogit_jax.config.packaged import find_config
from unilogit_jax.config.problems import OVERRIDE, Origins, Problem, bools_for_numbers, problems_of
from unilogit_jax.config.schema import Experiment
from unilogit_jax.config.yaml_file import KeyPath, read_yaml
from unilogit_jax.errors import ConfigError
from unilogit_jax.paths import AnyPath


class Loaded(NamedTuple):
    """An experiment, and what its reader should know about how it was read."""

    experiment: Experiment
    notes: tuple[str, ...]
    """Such as keys that were dropped because an override swapped the method."""


def load_config(source: str | AnyPath, *overrides: str) -> Experiment:
    """Reads an experiment; notes about it go to this module's logger as warnings.

    Args:
      source: a YAML file, or the name of a packaged config such as "toy".
      overrides: `key.sub=value` each, the value in YAML.

    Returns:
      The checked experiment. Paths in it stay as they were written.

    Raises:
      ConfigError: with every problem of the file and the overrides on a line of its own.

    Example:
      >>> load_config("toy", "unlearn.steps=5").unlearn.steps
      5

    """
    loaded = read_config(source, *overrides)
    for note in loaded.notes:
        logging.getLogger(__name__).warning(note)
    return loaded.experiment


def read_config(source: str | AnyPath, *overrides: str) -> Loaded:
    """Like `load_config`, with the notes returned instead of logged.

    Raises:
      ConfigError: with every problem of the file and the overrides on a line of its own.

    """
    path = find_config(source)
    document = read_yaml(path)
    repeated = [
        Problem(line, f"'{'.'.join(key)}' is already set in line {first}.")
        for key, line, first in document.repeated
    ]
    return _checked(document.values, overrides, document.lines, repeated, str(path))


def make_config(tree: dict[str, Any], *overrides: str) -> Experiment:
    """An experiment from the values that a file would hold; they are changed in place.

    Raises:
      ConfigError: with every problem on a line of its own.

    Example:
      >>> data = {"benchmark": "toy"}
      >>> tree = {"name": "mine", "model": {"weights": "my-model"}, "data": data}
      >>> make_config(tree, "eval.batch_size=8").eval.batch_size
      8

    """
    return _checked(tree, overrides, {}, [], "these settings").experiment


def _checked(
    tree: dict[str, Any],
    overrides: Sequence[str],
    lines: dict[KeyPath, int],
    problems: list[Problem],
    where: str,
) -> Loaded:
    """The values with overrides, as an experiment; `lines` says where each value stands."""
    applied = apply_overrides(tree, overrides)
    origins = Origins(lines, applied.paths)
    found = [Problem(OVERRIDE, text) for text in applied.problems] + problems
    experiment = None
    try:
        experiment = Experiment.model_validate(tree)
    except ValidationError as error:
        found += problems_of(error, tree, origins)
    found += bools_for_numbers(tree, origins)
    if found or experiment is None:
        told = [str(problem) for problem in sorted(found, key=lambda problem: problem.line)]
        raise ConfigError("\n".join([f"config error in {where}", *told]))
    return Loaded(experiment, tuple(applied.notes))


def dump_config(experiment: Experiment) -> str:
    """The experiment as YAML with every key written out; `load_config` reads it back unchanged."""
    return yaml.safe_dump(
        experiment.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=1000
    )
