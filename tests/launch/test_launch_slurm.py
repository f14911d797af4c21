# SPDX-License-Identifier: Apache-2.0
"""The SLURM batch script: what it starts, when it queues itself again, and what it asks for."""

import re
import shlex
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BATCH = ROOT / "scripts" / "launch" / "slurm.sbatch"
WORDS = ["/mnt/the run", "my config.yaml", "unlearn.learning_rates={embed: 0.1}", "name=it's"]
SRUN = ["srun", "--kill-on-bad-exit=0", "--wait=60", "--gpu-bind=none"]
START = str(ROOT / "scripts" / "launch" / "start_or_resume.sh")


def test_the_dry_run_prints_what_would_be_started_and_calls_nothing(stubs, tmp_path):
    stubs.add("srun")
    stubs.add("scontrol")
    done = stubs.run("bash", BATCH, *WORDS, DRY_RUN=1, cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.count("\n") == 1
    assert shlex.split(done.stdout) == [*SRUN, START, "unlearn", *WORDS]
    assert stubs.calls() == []


def submit(stubs, tmp_path, **env):
    """Runs the copy that SLURM would make, somewhere else."""
    spooled = shutil.copy(BATCH, tmp_path / "slurm_script")
    about = {"SLURM_JOB_ID": "77", "SLURM_SUBMIT_DIR": ROOT} | env
    return stubs.run("bash", spooled, *WORDS, cwd=tmp_path, **about)


def test_the_job_starts_what_the_dry_run_prints_with_its_cpus(stubs, tmp_path):
    stubs.add("srun")
    done = submit(stubs, tmp_path, SLURM_CPUS_PER_TASK=12, VERB="finetune")
    assert done.returncode == 0, done.stderr
    assert stubs.calls() == [[*SRUN, "--cpus-per-task=12", START, "finetune", *WORDS]]


@pytest.mark.parametrize(
    ("code", "restarts", "again"),
    [(0, 0, False), (1, 0, False), (2, 0, False), (143, 0, True), (143, 4, True), (143, 5, False)],
)
def test_only_a_run_that_sigterm_ended_is_queued_again(stubs, tmp_path, code, restarts, again):
    stubs.add("srun", code=code)
    stubs.add("scontrol")
    done = submit(stubs, tmp_path, SLURM_RESTART_COUNT=restarts, MAX_REQUEUES=5)
    assert done.returncode == code
    assert stubs.calls()[1:] == ([["scontrol", "requeue", "77"]] if again else [])


def test_a_submission_from_elsewhere_is_refused_before_anything_starts(stubs, tmp_path):
    stubs.add("srun")
    done = submit(stubs, tmp_path, SLURM_SUBMIT_DIR=tmp_path)
    assert done.returncode == 2 and "submit from the root" in done.stderr
    assert stubs.calls() == []


def test_too_few_words_are_refused(stubs):
    assert stubs.run("bash", BATCH, "/mnt/run").returncode == 2


def test_sbatch_sees_every_directive_and_they_give_each_task_its_gpu():
    lines = BATCH.read_text().splitlines()
    # sbatch reads no further than the first command.
    end = next(i for i, line in enumerate(lines) if line and not line.startswith("#"))
    asked = dict(re.findall(r"^#SBATCH --([\w-]+)=?(\S*)$", "\n".join(lines[:end]), re.M))
    assert sum(line.startswith("#SBATCH") for line in lines) == len(asked)
    assert asked["ntasks-per-node"] == asked["gpus-per-node"]
    assert "gpus-per-task" not in asked, "the tasks divide the GPUs that they all see"
    # To the tasks, not to the batch shell (B:), and a log that a second start adds to.
    assert re.fullmatch(r"TERM@\d+", asked["signal"])
    assert "requeue" in asked and asked["open-mode"] == "append"
