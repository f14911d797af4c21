# SPDX-License-Identifier: Apache-2.0
"""A later request: the configuration of a run, begun with the weights that the run ended with."""

from unilogit_jax.config import Experiment, Loaded, read_config
from unilogit_jax.errors import CheckpointError, ConfigError
from unilogit_jax.paths import AnyPath
from unilogit_jax.run import RunFolder
from unilogit_jax.run.ledger import read_ledger
from unilogit_jax.workflows._runs import is_run, open_run


def continued(path: AnyPath | str, *overrides: str) -> Loaded:
    """The experiment that goes on from a finished run.

    Args:
      path: the run.
      *overrides: what is to be forgotten now, `data.forget=second.jsonl` say, and whatever else
        changes.

    Raises:
      CheckpointError: the run is not finished.
      ConfigError: nothing new is to be forgotten, or an override is wrong.

    """
    run, before = open_run(path)
    if run.status != "done":
        raise CheckpointError(
            f"{run.path} is not finished ({run.status}). First go on with it: unilogit unlearn "
            f"--resume {run.path}"
        )
    loaded = read_config(run.config, *start_from(run), *overrides)
    if loaded.experiment.data == before.data:
        raise ConfigError(
            f"--continue {run.path}: say what to forget now, such as data.forget=second.jsonl; the "
            "data are those of the run itself."
        )
    return loaded


def start_from(run: RunFolder) -> tuple[str, ...]:
    """Overrides of an experiment that begins with the weights that a run ended with."""
    return (f"model.weights={run.path.absolute()}", "model.scratch=null", "eval.gold=false")


def served_before(experiment: Experiment) -> list[dict[str, object]]:
    """The ledger of the run that an experiment goes on from; empty if it starts from none."""
    weights = experiment.model.weights
    return read_ledger(open_run(weights)[0].path) if weights and is_run(weights) else []
