# SPDX-License-Identifier: Apache-2.0
"""Opens or makes a run folder and keeps its status true, whatever happens."""

import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from unilogit_jax.config import Experiment, dump_config
from unilogit_jax.run import Console, RunFolder


@contextmanager
def session(
    experiment: Experiment,
    *,
    out: Path | None,
    resume: RunFolder | None,
    console: Console,
    verb: str,
    notes: Sequence[str] = (),
) -> Iterator[RunFolder]:
    """A run folder for the time of a run: status running, then done or failed with the reason."""
    if resume is not None:
        run = resume
    else:
        run = RunFolder.create(
            experiment.output.dir, experiment.name, config_yaml=dump_config(experiment), exact=out
        )
    console.log_to(run.log)
    for note in notes:
        console.warn(note)
    run.set_status("running")
    run.write_env({"verb": verb, "seed": experiment.output.seed})
    try:
        yield run
    except BaseException as error:
        reason = "interrupted" if isinstance(error, KeyboardInterrupt) else f"{error}"
        console.log(traceback.format_exc())
        run.set_status(f"failed: {' '.join(reason.split()) or type(error).__name__}")
        raise
    run.set_status("done")
    run.write_env({"verb": verb, "seed": experiment.output.seed})
