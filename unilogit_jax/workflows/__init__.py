# SPDX-License-Identifier: Apache-2.0
"""What the command line does, as Python functions."""

from unilogit_jax.hosts import agreed
from unilogit_jax.paths import AnyPath
from unilogit_jax.run import Console, RunFolder, read_json
from unilogit_jax.run.shapes import Env
from unilogit_jax.workflows._continue import continued
from unilogit_jax.workflows._runs import open_run
from unilogit_jax.workflows.attack import attack
from unilogit_jax.workflows.compare import compare
from unilogit_jax.workflows.evaluate import ask, evaluate
from unilogit_jax.workflows.export import export, load_pretrained
from unilogit_jax.workflows.finetune import finetune
from unilogit_jax.workflows.generate import generate
from unilogit_jax.workflows.harness import evaluate_tasks
from unilogit_jax.workflows.plan import plan
from unilogit_jax.workflows.quickstart import quickstart
from unilogit_jax.workflows.report import report
from unilogit_jax.workflows.sequence import is_sequence, resume_sequence, unlearn_sequence
from unilogit_jax.workflows.sweep import is_sweep, resume_sweep, sweep
from unilogit_jax.workflows.unlearn import unlearn

__all__ = [
    "ask",
    "attack",
    "compare",
    "continued",
    "evaluate",
    "evaluate_tasks",
    "export",
    "finetune",
    "generate",
    "load_pretrained",
    "plan",
    "quickstart",
    "report",
    "resume",
    "resume_sweep",
    "sweep",
    "unlearn",
    "unlearn_sequence",
]


def resume(
    path: AnyPath | str, *, console: Console | None = None, profile: bool = False
) -> RunFolder:
    """Goes on with a run that was stopped, from its newest checkpoints and with its configuration.

    Args:
      path: the run folder, or that of requests served in turn, or of a sweep.
      console: where to print; None prints to standard output.
      profile: traces a few updates of what is still to do.

    Raises:
      CheckpointError: the folder is no run, or its newest checkpoint is damaged.

    """
    if agreed(lambda: is_sequence(path)):
        return resume_sequence(path, console=console, profile=profile)
    if agreed(lambda: is_sweep(path)):
        return resume_sweep(path, console=console, profile=profile)
    run, experiment = open_run(path)
    verb = agreed(lambda: read_json(run.env, Env).get("verb") if run.env.is_file() else "unlearn")
    start = finetune if verb == "finetune" else unlearn
    if profile:
        output = experiment.output.model_copy(update={"profile": True})
        experiment = experiment.model_copy(update={"output": output})
    return start(experiment, resume=run, console=console)
