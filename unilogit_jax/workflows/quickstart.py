# SPDX-License-Identifier: Apache-2.0
"""The first two minutes: forty invented people, four of them removed from a model, on a laptop."""

from unilogit_jax.config import load_config
from unilogit_jax.methods import GradDiff, Npo, Undial, Unilogit
from unilogit_jax.paths import AnyPath
from unilogit_jax.run import Console, RunFolder
from unilogit_jax.workflows.unlearn import unlearn


def quickstart(
    *, compare: bool = False, out: AnyPath | str | None = None, console: Console | None = None
) -> RunFolder:
    """Trains a small model on invented people, unlearns a tenth of them, and shows the difference.

    Nothing is downloaded. The gold model, which never saw those people, is trained beside it, and
    Unilogit is run twice: as published, and with targets held to what n-grams and the start model
    say, as column "anchored".

    Args:
      compare: also run NPO, UnDIAL and gradient difference from the same start.
      out: this very run folder instead of a new one under runs/.
      console: where to print; None prints to standard output.

    Returns:
      The run folder; its summary.json says under "passed" whether the run did its job.

    """
    experiment = load_config("toy")
    weight = experiment.method.retain_weight
    others = (Npo, Undial, GradDiff) if compare else ()
    rivals = (
        Unilogit(
            label="anchored",
            tau="ngram",
            alternatives="initial",
            direction="forward",
            retain_weight=weight,
        ),
        *(rival(retain_weight=weight) for rival in others),
    )
    experiment = experiment.model_copy(update={"compare": rivals})
    return unlearn(experiment, out=out, console=console)
