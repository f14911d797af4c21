# SPDX-License-Identifier: Apache-2.0
"""Writes docs/methods-list.md from the table of methods and their docstrings.

python scripts/methods_page.py        a few seconds; needs a checkout
"""

import re
import sys
from pathlib import Path

from unilogit_jax.config.method_card import MethodCard, method_card
from unilogit_jax.methods import METHODS, Needs
from unilogit_jax.train import gradients_of

PAGE = Path(__file__).parents[1] / "docs" / "methods-list.md"

COUNTED = {
    "rmu": "0.16, with layer 8 of 32 and three trained matrices",
}
"""Cost of an update beside Unilogit's, where it is not a matter of how many rows it looks at."""


def main() -> int:
    PAGE.write_text(page())
    print(f"{PAGE}: {len(METHODS)} methods")
    return 0


def page() -> str:
    """The summary table, then a section for each method, in the table's order."""
    cards = [method_card(name) for name in METHODS]
    head = "| `method.name` | what it does | cost | paper |\n|---|---|---|---|"
    rows = [
        f"| [`{card.name}`](#method-{_anchor(card)}) | {_cell(card.summary)} | {_cost(card)} | "
        f"{_papers(card)} |"
        for card in cards
    ]
    return "\n".join([head, *rows, "", *map(_section, cards)])


def _section(card: MethodCard) -> str:
    blocks = [f"(method-{_anchor(card)})=\n### `{card.name}`", _escaped(card.summary)]
    for formula, text in card.body:
        blocks.append(f"```text\n{text}\n```" if formula else _escaped(text))
    blocks.append(_keys(card))
    facts = [f"- Needs: {_escaped('; '.join(card.needs))}." if card.needs else ""]
    facts.append(f"- Cost of an update beside Unilogit's: {_cost(card)}.")
    facts.append(f"- Paper: {_papers(card)}." if card.papers else "")
    facts += [f"- Difference to other code: {_escaped(note)}" for note in card.notes]
    blocks.append("\n".join(filter(None, facts)))
    return "\n\n".join(blocks) + "\n"


def _keys(card: MethodCard) -> str:
    """Own keys; those of all methods are in the page around."""
    shared = {key.name: key for key in method_card("unilogit").keys}
    rows = [
        f"| `{key.name}` | {_cell(key.values)} | {_cell(key.default)} | {_cell(key.meaning)} |"
        for key in card.keys
        if key.name not in ("label", "forget_weight", "retain_weight", "retain")
        or key.default != shared[key.name].default
    ]
    if not rows:
        return "No keys of its own."
    return "\n".join(["| key | values | default | meaning |\n|---|---|---|---|", *rows])


def _cost(card: MethodCard) -> str:
    """Sets of rows that an update looks at, of which Unilogit's looks at two, times gradients."""
    method = METHODS[card.name]()
    needs: Needs = method.needs
    others = needs.alternates - {"none", "retain_refusal"}
    sets = needs.forget + bool(others) + 1 + ("retain_refusal" in needs.alternates)
    return COUNTED.get(card.name, f"{sets / 2 * gradients_of(method):.2f}")


def _papers(card: MethodCard) -> str:
    return ", ".join(f"[{number}](https://arxiv.org/abs/{number})" for number in card.papers)


def _anchor(card: MethodCard) -> str:
    return card.name.replace("_", "-")


def _cell(text: str) -> str:
    """For a table, where a bar ends a cell even within code."""
    return _escaped(text).replace("\\|", "|").replace("|", "\\|")


def _escaped(text: str) -> str:
    """Text whose backticks mark code, and in which nothing else is markup."""
    parts = text.split("`")
    parts[::2] = [re.sub(r"([\\*_|<>\[\]{}$~#])", r"\\\1", part) for part in parts[::2]]
    return "`".join(parts)


if __name__ == "__main__":
    sys.exit(main())
