# SPDX-License-Identifier: Apache-2.0
"""What a model is asked for when it writes data itself: other answers, or texts about somebody."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from unilogit_jax.data.examples import Example
from unilogit_jax.errors import DataError

OTHER_ANSWER = (
    "Question: {question}\nAnswer: {answer}\n\nWrite another answer to this question. It has to be "
    "as plausible, as long and of the same form, but state other facts. Write nothing else."
)
"""How another answer to a question is asked for."""

TEXTS = (
    "Write a short biography of {name}.",
    "What is {name} best known for?",
    "Tell me about the early life of {name}.",
    "Describe the career of {name}.",
    "Write an encyclopedia article about {name}.",
    "Tell me about the family and the friends of {name}.",
    "Which events shaped the life of {name}?",
    "List ten facts about {name}, each in a sentence.",
    "Which achievements of {name} should one know, and why?",
    "How did {name} influence others?",
)
"""How texts about somebody are asked for, in turn."""


def fill(form: str, values: Mapping[str, str]) -> str:
    """Puts values in place of {names}; any other brace stays as it is.

    Example:
      >>> fill("{name} wrote {this}", {"name": "Ann"})
      'Ann wrote {this}'

    """
    for name, value in values.items():
        form = form.replace(f"{{{name}}}", value)
    return form


def with_alternates(
    examples: Sequence[Example], given: Sequence[Example], where: str
) -> tuple[Example, ...]:
    """Rows with the other answers that rows of another file give to the same questions.

    Args:
      examples: the rows.
      given: rows that have such answers.
      where: the file they come from, for messages.

    Raises:
      DataError: a question is not among those given.

    Example:
      >>> given = [Example("Who?", "Ann.", alternates=("Bo.",))]
      >>> with_alternates([Example("Who?", "Ann.")], given, "f")[0].alternates
      ('Bo.',)

    """
    found = {example.question: example.alternates for example in given}
    for example in examples:
        if not found.get(example.question):
            raise DataError(
                f"{where} (data.alternates) has no other answers to '{example.question}', which is "
                "to be forgotten. 'unilogit generate' writes such a file for the rows of a config."
            )
    return tuple(replace(example, alternates=found[example.question]) for example in examples)
