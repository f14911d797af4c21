# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a configuration whose keys are each right by themselves."""

import re
from collections import Counter
from typing import TYPE_CHECKING

from unilogit_jax.config.find_method import method_label

if TYPE_CHECKING:
    from unilogit_jax.config.schema import Experiment

WANTED = {
    "files": {"forget": "the path of the rows to forget"},
    "tofu": {"dir": "the folder of TOFU's files"},
    "muse": {"dir": "the folder of MUSE's files"},
    "rwku": {"dir": "the folder of RWKU's files", "forget": "the people to forget"},
    "wmdp": {"dir": "the folder of WMDP's files", "forget": "the corpora to forget"},
}
"""Benchmark -> keys of `data` that it cannot do without, and what they are."""


def problems_of(experiment: "Experiment") -> list[str]:
    """Everything about keys that do not go together, a sentence each."""
    problems = []
    if (experiment.model.weights is None) == (experiment.model.scratch is None):
        problems.append("set exactly one of model.weights and model.scratch")
    if experiment.eval.gold and experiment.model.scratch is None:
        problems.append("eval.gold needs model.scratch: a gold model is trained from scratch")
    data = experiment.data
    problems.extend(
        f"data.benchmark {data.benchmark} needs data.{key}, {what}"
        for key, what in WANTED.get(data.benchmark, {}).items()
        if getattr(data, key) is None
    )
    return [*problems, *_labels(experiment), *_rows(experiment), *_adapters(experiment)]


def _labels(experiment: "Experiment") -> list[str]:
    """Methods get a column and a folder each, by their labels."""
    labels = Counter(method_label(rival) for rival in experiment.compare)
    problems = [
        f"compare holds several methods called {label}, which is one column and one folder: "
        "give each a label of its own"
        for label, count in labels.items()
        if count > 1
    ]
    problems.extend(
        f"the label {label!r} of a method may hold letters, digits and . _ - only, since it "
        "becomes a folder's name"
        for label in map(method_label, experiment.methods)
        if not re.fullmatch(r"\w[\w.-]*", label)
    )
    problems.extend(
        f"compare holds a method called {label}, which is another column's name"
        for label in labels.keys() & {"before", "after", "gold"}
    )
    return problems


def _rows(experiment: "Experiment") -> list[str]:
    """Microbatches have to be of one size."""
    rows = {("finetune", ""): experiment.finetune.batch_size}
    for method in experiment.methods:
        of = f" of method {method_label(method)}" if method.needs.alternates else ""
        rows[("unlearn", of)] = experiment.unlearn.rows(method)
    problems = []
    for (name, of), count in rows.items():
        training = getattr(experiment, name)
        if count % training.microbatches and training.packing is None:
            problems.append(
                f"{name}.microbatches {training.microbatches} does not divide the {count} rows of "
                f"an update{of}"
            )
    return problems


def _adapters(experiment: "Experiment") -> list[str]:
    """With adapters, keys about whole weights say nothing."""
    training = experiment.unlearn
    default = type(training)()
    return [
        f"unlearn.{key} is about whole weights, which lora leaves as they are: "
        "choose adapters with lora.targets"
        for key in ("trainable", "learning_rates")
        if experiment.lora is not None and getattr(training, key) != getattr(default, key)
    ]
