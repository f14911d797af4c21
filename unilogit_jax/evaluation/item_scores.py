# SPDX-License-Identifier: Apache-2.0
"""What an item's tokens and words say besides its likelihood: memory, membership, ROUGE."""

from unilogit_jax import metrics
from unilogit_jax.data import Probe
from unilogit_jax.evaluation.forced import Scores


def token_scores(probe: Probe, row: int, scores: Scores, text: str) -> dict[str, float]:
    """What the tokens of the true answer say of memory and membership.

    Args:
      probe: the item.
      row: of the pass, which scored its true answer.
      scores: of the pass; without moments over the vocabulary there is no Min-K++.
      text: the tokens of that answer, without special ones.

    Returns:
      Numbers by their names in published logs.

    """
    hits, logprobs, nll = scores.hits[row], scores.logprobs[row], float(scores.nll[row])
    ends = probe.question is not None and not probe.literal
    found = {
        # As published: without the last token, also where that is none that ends a text.
        "exact_memorization": metrics.exact_memorization(hits),
        "extraction_strength": metrics.extraction_strength(hits, variant="open_unlearning"),
        "extraction_strength_exact": metrics.extraction_strength(hits, end_token=ends),
        "mia_loss": nll,
        "mia_zlib": metrics.zlib_score(nll, text),
        "mia_min_k": metrics.min_k(logprobs),
    }
    if scores.means:
        moments = scores.means[row], scores.variances[row]
        found["mia_min_k_plus_plus"] = metrics.min_k_plus_plus(logprobs, *moments)
    return found


def rouge_scores(rouge: metrics.Rouge | None) -> dict[str, float]:
    """The two ROUGEs that an item has besides ROUGE-L's recall; none without an answer."""
    names = ("rouge1_recall", "rougeL_f1")
    return {} if rouge is None else {name: getattr(rouge, name) for name in names}
