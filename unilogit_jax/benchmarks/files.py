# SPDX-License-Identifier: Apache-2.0
"""Your own rows: a file to forget and, if there is one, a file to keep."""

from collections.abc import Sequence

from unilogit_jax.data import Example, Probe, Source, Task, read_examples


def load_files(source: Source) -> Task:
    """Reads `source.forget` and `source.retain`; the rows themselves are what is measured.

    Raises:
      DataError: a file is missing or a row is not of the expected form.

    """
    forget = read_examples(source.forget or "")
    retain = read_examples(source.retain) if source.retain is not None else []
    probes = (*as_probes(forget, "forget"), *as_probes(retain, "retain"))
    return Task(name="files", forget=tuple(forget), retain=tuple(retain), probes=probes)


def as_probes(examples: Sequence[Example], group: str) -> tuple[Probe, ...]:
    """Asks training rows back, word for word."""
    return tuple(Probe(e.question, e.answer, group) for e in examples)
