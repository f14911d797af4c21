# SPDX-License-Identifier: Apache-2.0
"""A method as text for people: what `unilogit show method NAME` prints."""

import textwrap
from collections.abc import Sequence

from unilogit_jax.config.method_card import MethodCard

WIDTH = 96


def method_text(card: MethodCard) -> str:
    """Formula, keys, needs and papers of a method."""
    blocks = [f"{card.name}: {card.summary}"]
    blocks += [
        textwrap.indent(text, "    ") if formula else _wrapped(text) for formula, text in card.body
    ]
    blocks.append("\n".join(["keys", *_keys(card)]))
    needs = card.needs or ("nothing but the model that is trained",)
    blocks.append("\n".join(["needs", *(_wrapped(line, "  ") for line in needs)]))
    blocks += [_wrapped(f"note: {note}") for note in card.notes]
    if card.papers:
        blocks.append("\n".join(f"paper  https://arxiv.org/abs/{number}" for number in card.papers))
    return "\n\n".join(blocks)


def _keys(card: MethodCard) -> Sequence[str]:
    lines = []
    for key in card.keys:
        head = f"  {key.name} = {key.default}"
        lines += [f"{head}   ({key.values})", *filter(None, [_wrapped(key.meaning, "      ")])]
    return lines


def _wrapped(text: str, indent: str = "") -> str:
    return textwrap.fill(
        text, WIDTH, initial_indent=indent, subsequent_indent=indent, break_long_words=False
    )
