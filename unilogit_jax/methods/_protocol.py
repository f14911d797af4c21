# SPDX-License-Identifier: Apache-2.0
"""What a method is to the trainer: a pure function, what it needs, and the parts of its loss."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Array, Bool, Float, Int

from unilogit_jax.ops import Divergence
from unilogit_jax.types import Batch, TokenStats

Result = tuple[Float[Array, ""], dict[str, Float[Array, ""]]]
"""Loss, and numbers for the log."""
Alternates = Literal["none", "refusal", "answer", "relabelled", "retain_refusal"]


class Needs(NamedTuple):
    """What the trainer has to provide beyond the label's log-odds; the default is nothing."""

    ref_log_odds: frozenset[int] = frozenset()
    """Sets whose rows need the label's log-odds under the start model: one number per token."""
    ref_hidden: frozenset[int] = frozenset()
    """Sets whose rows need its last hidden states (with `layer`: those of that layer)."""
    ref_top: int = 0
    """How many of its likeliest tokens are stored for each forget token."""
    reinforced: float | None = None
    """With a number alpha what is stored of forget tokens, log-odds too, is that of v - alpha
    relu(v_reinforced - v): v are the start model's logits, v_reinforced those of one that a stage
    before has trained on the forget rows."""
    tau: Literal["", "ngram", "name_swap", "reference", "own"] = ""
    """Where `logit_tau` of each forget token comes from; "": there is none."""
    alternates: frozenset[Alternates] = frozenset()
    """Other answers to the same questions: "refusal" or "answer" for forget rows, as rows of the
    set ALTERNATE, "retain_refusal" for retain rows, as RETAIN_ALTERNATE. "relabelled" for forget
    rows that read the forget answer and have a refusal's tokens as labels, also as ALTERNATE."""
    forget: bool = True
    """Whether forget rows themselves are looked at."""
    layer: int | None = None
    """The layer that the method acts on: the forward pass ends there."""
    extras: frozenset[str] = frozenset()
    """Further numbers of each token: "top_logprob", the log-probability of the likeliest other
    token; "logit_gap", the largest logit less the mean of all."""

    def rows(self, forget: int, retain: int) -> int:
        """Rows of an update that takes so many of both, other answers included.

        Example:
          >>> Needs(alternates=frozenset({"refusal"})).rows(8, 16)
          32

        """
        others = bool(self.alternates - {"none", "retain_refusal"})
        again = "retain_refusal" in self.alternates
        return forget * (self.forget + others) + retain * (1 + again)


@runtime_checkable
class Method(Protocol):
    """A method: a frozen dataclass whose fields are its hyper-parameters.

    A class with `needs` and a call is enough. Methods of the table are `Structured`, so that the
    trainer can take the cheaper ways.
    """

    @property
    def needs(self) -> Needs:
        """What the trainer has to provide."""
        ...

    def __call__(self, stats: TokenStats, state: Any) -> Result:
        """The loss of one batch and numbers for the log.

        Loss and numbers of the parts of a batch have to add up to those of the whole, as those do
        that are made with `set_mean` and `answer_mean`.
        """
        ...


@runtime_checkable
class Finishing(Method, Protocol):
    """A method whose result is not the trained weights themselves, but made of them.

    A method without `finish` ends with the weights as trained.
    """

    def finish(self, start: Any, trained: Any) -> Any:
        """The result, from the weights before and after training; traced once, under jit.

        Both are trees of one form, in float32, which the result has to have too; it is rounded to
        the type of the weights. With low-rank adapters the trees hold what these add to the
        adapted kernels, which is zero at the start; the result is added to the kernels.
        """
        ...


class Given(NamedTuple):
    """What a loss of single tokens may read besides their log-odds; it carries no gradient."""

    sets: Int[Array, "*T"]
    ref_log_odds: Float[Array, "*T"] | None = None
    logit_tau: Float[Array, "*T"] | None = None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Tokens of one set that are compared with a whole teacher distribution."""

    which: int
    divergence: Divergence
    teacher: Literal["hidden", "stored", "uniform"] = "hidden"
    """The start model by its hidden states, by its stored tokens, or the uniform distribution."""
    tokens: Callable[[Given, int], Bool[Array, "*T"]] | None = None
    """Only these of the set's supervised tokens, of what is given and V; the mean is still over
    all of them."""
    logit_tau: Callable[[Given, int], Float[Array, "*T"]] | None = None
    """Log-odds of each target's label probability, likewise; None: as `divergence` says."""
    everywhere: bool = False
    """All positions of the set's rows, supervised or not."""
    unlabelled: int = 0
    """The token that counts as the label where there is none; from the end, if negative."""


@runtime_checkable
class Structured(Method, Protocol):
    """A method whose loss is a sum of parts, each of which the trainer computes the cheapest way.

    sum over sets of weight * mean of `token_loss` or of the comparison  +  `answer_loss`
    """

    @property
    def set_weights(self) -> dict[int, float]:
        """Set -> weight of the mean over its tokens. Each is compared, or has a `token_loss`."""
        ...

    @property
    def token_sets(self) -> frozenset[int]:
        """Those sets with a `token_loss`. One that is compared too has both added up."""
        ...

    def token_loss(
        self, log_odds: Float[Array, "*T"], given: Given, *, vocab_size: int
    ) -> Float[Array, "*T"]:
        """The loss of every token, a function of its log-odds alone.

        Its gradient is made while the logits are at hand, which saves a matmul.
        """
        ...

    @property
    def comparisons(self) -> tuple[Comparison, ...]:
        """Those sets whose tokens are compared with a teacher."""
        ...

    @property
    def answer_sets(self) -> frozenset[int]:
        """Sets that `answer_loss` reads, for losses whose token weights are known only later."""
        ...

    def answer_loss(self, stats: TokenStats, state: Any) -> Float[Array, ""]:
        """A loss of whole answers, or of further numbers of the tokens; its weight included."""
        ...

    def weigh(self, batch: Batch) -> Batch:
        """The batch with other weights of its tokens, if the method wants them."""
        ...

    def start(self, key: Array, *, width: int) -> Any:
        """The state before the first update: duals, random directions; usually ()."""
        ...

    def advance(self, state: Any, metrics: dict[str, Float[Array, ""]], step: Any) -> Any:
        """The state after an update, from the numbers of its whole batch."""
        ...
