# SPDX-License-Identifier: Apache-2.0
"""Which run of several: the best forgetting of those that keep enough, by a rule set before."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from unilogit_jax.errors import ConfigError, suggest
from unilogit_jax.evaluation import MEANINGS

UTILITIES = (
    "model_utility",
    "retain_exact_match",
    "retain_knowledge",
    "mmlu",
    "retain_probability",
)
FORGETS = ("forget_probability", "forget_knowledge", "forget_level2", "wmdp_bio")
"""Numbers that are taken where none are named, the first that was measured."""
_DISTANCES = ("privleak",)
"""Numbers that are distances from gold already, to both sides of 0."""

Numbers = Mapping[str, float]


@dataclass(frozen=True)
class Rule:
    """Of the runs with enough utility, the one that forgot best."""

    utility: str
    """Number that says what was kept."""
    forget: str
    """Number that says what was forgotten."""
    floor: float = 0.95
    """Least utility, as a share of that before unlearning."""

    def keeps(self, numbers: Numbers, before: Numbers) -> bool:
        """Whether a run keeps enough."""
        return numbers[self.utility] >= self.floor * before[self.utility] - 1e-9

    def remains(self, numbers: Numbers, gold: Numbers | None) -> float:
        """How far a run is from having forgotten; the least is best.

        Where a number is to be like gold's, the distance from it; else, or without gold, the number
        itself, turned round where more is better.
        """
        value, meaning = numbers[self.forget], MEANINGS[self.forget]
        if self.forget in _DISTANCES:
            return abs(value)
        if meaning.direction == "like gold" and gold is not None and self.forget in gold:
            return abs(value - gold[self.forget])
        return -value if meaning.direction == "higher" else value


def check_rule(*, utility: str | None, forget: str | None, floor: float) -> None:
    """Refuses what no run can be chosen by, before any is started.

    Raises:
      ConfigError: a number that no evaluation has, a utility that is to be low, or a floor that is
        no share.

    """
    if not 0 < floor <= 1:
        raise ConfigError(f"--floor {floor} is a share of the utility before: above 0, at most 1.")
    for option, name in (("utility", utility), ("forget", forget)):
        if name is not None and name not in MEANINGS:
            near, known = suggest(name, MEANINGS), ", ".join(MEANINGS)
            raise ConfigError(f"--{option} {name}: no such number.{near} They are {known}.")
    if utility is not None and (wanted := MEANINGS[utility].direction) != "higher":
        raise ConfigError(
            f"--utility {utility}: a floor keeps a number high, and of this one {wanted} is "
            f"better. Take one such as {', '.join(UTILITIES)}."
        )


def make_rule(
    measured: Collection[str], *, utility: str | None, forget: str | None, floor: float
) -> Rule:
    """The rule, with numbers that there are: those `measured`, by name.

    Raises:
      ConfigError: a number was not measured.

    """
    names = {"utility": (utility, UTILITIES), "forget": (forget, FORGETS)}
    chosen = {}
    for option, (name, usual) in names.items():
        found = next((one for one in usual if one in measured), None) if name is None else name
        if found is None or found not in measured:
            near = suggest(found or "", measured)
            raise ConfigError(
                f"--{option} {found or ''}: this is not measured here.{near} There is: "
                f"{', '.join(measured)}."
            )
        chosen[option] = found
    return Rule(**chosen, floor=floor)


def front(rule: Rule, runs: Mapping[str, Numbers], gold: Numbers | None) -> list[str]:
    """Runs that no other one beats in both numbers, the best forgetting first.

    Example:
      >>> names = "forget_exact_match", "retain_exact_match"
      >>> pairs = {"a": (0.1, 0.9), "b": (0.3, 1.0), "c": (0.3, 0.8)}
      >>> runs = {name: dict(zip(names, pair)) for name, pair in pairs.items()}
      >>> front(Rule("retain_exact_match", "forget_exact_match"), runs, None)
      ['a', 'b']

    """
    at = {name: (rule.remains(n, gold), -n[rule.utility]) for name, n in runs.items()}

    def beaten(name: str) -> bool:
        own = at[name]
        return any(x[0] <= own[0] and x[1] <= own[1] and x != own for x in at.values())

    return sorted((name for name in at if not beaten(name)), key=lambda name: at[name])


def pick(
    rule: Rule, runs: Mapping[str, Numbers], before: Numbers, gold: Numbers | None
) -> str | None:
    """The run that the rule chooses; None if none keeps enough."""
    good: Sequence[str] = [name for name, numbers in runs.items() if rule.keeps(numbers, before)]
    return min(
        good, key=lambda n: (rule.remains(runs[n], gold), -runs[n][rule.utility]), default=None
    )
