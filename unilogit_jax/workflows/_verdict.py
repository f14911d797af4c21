# SPDX-License-Identifier: Apache-2.0
"""Says in words whether a run did its job, by rules fixed beforehand."""

from collections.abc import Mapping
from dataclasses import dataclass

MOST_RETAIN_LOSS = 0.03
"""Accuracy on what is to be kept may fall by at most three points."""

LEAST_FORGETTING = 0.5
"""At most this share of the forgotten answers that were exact before may still be exact after."""


@dataclass(frozen=True)
class Verdict:
    """Whether the run passed, and one paragraph for a person."""

    passed: bool | None
    """None: nothing was measured that a rule is about."""
    text: str

    def __str__(self) -> str:
        word = {True: "PASSED", False: "FAILED", None: "NO VERDICT"}[self.passed]
        return f"{word}. {self.text}"


def judge(before: Mapping[str, float], after: Mapping[str, float]) -> Verdict:
    """Compares the summaries before and after unlearning.

    A run fails if the retain accuracy falls by more than three points, or if more than half of the
    answers to be forgotten that were given word for word still are. Where neither was measured, as
    in benchmarks with panels of their own, there is no verdict.

    Example:
      >>> judge({"forget_exact_match": 1.0, "retain_exact_match": 1.0},
      ...       {"forget_exact_match": 0.0, "retain_exact_match": 0.9}).passed
      False

    """
    problems, facts = [], []
    likely = before.get("forget_probability"), after.get("forget_probability")
    if likely[0] is not None and likely[1] is not None:
        facts.append(f"probability of forgotten answers {likely[0]:.3f} -> {likely[1]:.3f}")
    forget = before.get("forget_exact_match"), after.get("forget_exact_match")
    if forget[0] is not None and forget[1] is not None:
        facts.append(
            f"exact answers to forgotten questions {_percent(forget[0])} -> {_percent(forget[1])}"
        )
        if forget[0] > 0 and forget[1] > LEAST_FORGETTING * forget[0]:
            problems.append("more than half of the forgotten answers are still given word for word")
    retain = before.get("retain_exact_match"), after.get("retain_exact_match")
    if retain[0] is not None and retain[1] is not None:
        facts.append(f"to kept questions {_percent(retain[0])} -> {_percent(retain[1])}")
        if retain[0] - retain[1] > MOST_RETAIN_LOSS + 1e-9:
            lost = 100 * (retain[0] - retain[1])
            problems.append(
                f"accuracy on what is to be kept fell by {lost:.1f} points (3 are allowed)"
            )
    if None in forget and None in retain:
        return Verdict(None, "No rule is fixed for what this benchmark measures: see the table.")
    text = " ".join(_sentence(part) for part in (problems, facts) if part)
    if forget[0] == 0:
        text += " None of those answers was exact before either, so this says little."
    return Verdict(not problems, text)


def _percent(x: float) -> str:
    return f"{100 * x:.1f} %"


def _sentence(facts: list[str]) -> str:
    text = "; ".join(facts)
    return f"{text[:1].upper()}{text[1:]}." if text else ""
