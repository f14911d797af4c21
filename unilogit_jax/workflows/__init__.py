# SPDX-License-Identifier: Apache-2.0
"""What the command line does, as Python functions."""

from pathlib import Path

from unilogit_jax.hosts import agreed
from unilogit_jax.run import Console, RunFolder, read_json
from unilogit_jax.workflows._runs import open_run
from unilogit_jax.workflows.evaluate import ask, evaluate
from unilogit_jax.workflows.export import export, load_pretrained
from unilogit_jax.workflows.finetune import finetune
from unilogit_jax.workflows.quickstart import quickstart
from unilogit_jax.workflows.unlearn import unlearn

__all__ = [
    "ask",
    "evaluate",
    "export",
    "finetune",
    "load_pretrained",
    "quickstart",
    "resume",
    "unlearn",
]


def resume(path: Path | str, *, console: Console | None = None) -> RunFolder:
    """Goes on with a run that was stopped, from its newest checkpoints and with its configuration.

    Raises:
      CheckpointError: the folder is no run, or its newest checkpoint is damaged.

    """
    run, experiment = open_run(path)
    verb = agreed(lambda: read_json(run.env).get("verb") if run.env.is_file() else "unlearn")
    start = finetune if verb == "finetune" else unlearn
    return start(experiment, resume=run, console=console)
