# SPDX-License-Identifier: Apache-2.0
"""What the loop does around its updates, with an update that only counts."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unilogit_jax.data import Rows, assemble
from unilogit_jax.errors import CheckpointError, Preempted, TrainingError
from unilogit_jax.sharding import make_mesh
from unilogit_jax.train import Checkpoints, Stage, TrainState, Watch, fit

STEPS = 10


@jax.jit
def count(state, batch):
    """Adds 1 to the only weight."""
    params = {"w": state.params["w"] + 1.0}
    return replace(state, params=params, step=state.step + 1), {"loss": params["w"]}


def one_batch(i):
    rows = Rows(np.ones((2, 4), np.int32), np.ones((2, 4), np.int32), np.array([4, 3], np.int32))
    return assemble([(rows, np.arange(2), {})], np.array([1, 2], np.int32))


def stage(**changes):
    mesh = make_mesh(fsdp=1, devices=jax.devices()[:1])
    options = {"name": "unlearn", "steps": STEPS, "log_every": 1, "checkpoint_every": 4} | changes
    return Stage(step_fn=count, batch_at=one_batch, mesh=mesh, **options)


class Notes:
    def __init__(self):
        self.lines = []

    def update(self, step, **numbers):
        pass

    def note(self, text):
        self.lines.append(text)


def run(folder, which):
    """(the weight at the end, logged lines, notes)."""
    lines, notes = [], Notes()
    zero = jnp.zeros((), jnp.int32)
    state = TrainState(
        params={"w": jnp.zeros(())}, opt_state=(), step=zero, skipped=zero, skipped_in_a_row=zero
    )
    with Checkpoints(folder) as checkpoints:
        state = fit(
            which, state, checkpoints, progress=notes, log=lambda **line: lines.append(line)
        )
    return float(state.params["w"]), lines, notes.lines


def falling(weights):
    """Every update costs a tenth of the utility and forgets a tenth."""
    w = float(weights["w"])
    return {"utility": 1.0 - w / 10, "known": 1.0 - w / 10}


def watched(**changes):
    start = {"utility": 1.0, "known": 1.0}
    options = {"every": 2, "start": start, "utility": "utility", "forget": "known"} | changes
    return stage(watch=Watch(**options), evaluate=falling)


def test_weights_below_the_floor_end_training_and_the_best_before_are_kept(tmp_path):
    weight, lines, notes = run(tmp_path / "unlearn", watched(floor=0.75))
    assert weight == 2.0, "utility 0.8 after update 2, 0.6 after update 4"
    assert [x["step"] for x in lines if "utility" in x] == [2, 4]
    assert any("utility is 0.600, below 0.750" in note for note in notes)
    again, lines, _ = run(tmp_path / "unlearn", watched(floor=0.75))
    assert (again, lines) == (2.0, []), "it stays ended"


def test_a_utility_that_is_no_number_is_not_above_the_floor(tmp_path):
    def breaking(weights):
        return falling(weights) | ({"utility": float("nan")} if weights["w"] >= 4 else {})

    which = replace(watched(floor=0.1), evaluate=breaking)
    weight, lines, notes = run(tmp_path / "unlearn", which)
    assert weight == 2.0 and lines[-1]["step"] == 4
    assert any("utility is nan, below 0.100" in note for note in notes)


def test_without_a_floor_the_last_weights_are_kept_and_all_updates_done(tmp_path):
    weight, lines, _ = run(tmp_path / "unlearn", watched())
    assert weight == STEPS
    assert [x["step"] for x in lines if "utility" in x] == [2, 4, 6, 8, 10]
    assert not (tmp_path / "unlearn.best").exists()


def test_a_reached_target_ends_training(tmp_path):
    weight, _, notes = run(tmp_path / "unlearn", watched(target=0.4))
    assert weight == 6.0
    assert any("stopping after update 6: known is 0.400, at most 0.4" in note for note in notes)


def test_no_evaluation_above_the_floor_keeps_the_last_weights_and_says_so(tmp_path):
    weight, _, notes = run(tmp_path / "unlearn", watched(floor=0.95))
    assert weight == 2.0
    assert "no evaluation met the floor: the last weights are kept" in notes


def test_the_floor_is_a_share_of_the_utility_at_the_start(tmp_path):
    start = {"utility": 0.5, "known": 1.0}
    weight, _, _ = run(tmp_path / "unlearn", watched(floor=0.8, start=start))
    assert weight == 6.0, "0.4 is 0.8 of 0.5"


def test_a_resumed_stage_logs_the_updates_that_an_undisturbed_one_does(tmp_path):
    def until(i):
        if i == 5:
            raise KeyboardInterrupt
        return one_batch(i)

    whole = stage(log_every=3)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "unlearn", replace(whole, batch_at=until))
    _, lines, _ = run(tmp_path / "unlearn", whole)
    assert [x["step"] for x in lines] == [6, 9, 10], "it goes on after update 4"
    _, lines, _ = run(tmp_path / "other", whole)
    assert [x["step"] for x in lines] == [1, 3, 6, 9, 10]


@pytest.mark.parametrize("at", [3, 4, 5, 6])
def test_a_watched_run_that_is_killed_keeps_the_weights_of_one_that_is_not(tmp_path, at):
    def until(i):
        if i == at:
            raise KeyboardInterrupt
        return one_batch(i)

    def rising(weights):
        """The best weights come before the kill, and utility ends the run after it."""
        w = float(weights["w"])
        return {"utility": 1.0 if w < 8 else 0.0, "known": 0.1 if w == 2 else 0.5}

    whole = replace(watched(floor=0.5), evaluate=rising)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "unlearn", replace(whole, batch_at=until))
    weight, _, _ = run(tmp_path / "unlearn", whole)
    assert weight == 2.0


def test_a_run_killed_between_its_best_weights_and_its_checkpoint_goes_on(tmp_path, monkeypatch):
    save = Checkpoints.save

    def dying(self, step, trees, facts):
        if step == 4 and self.folder.name == "unlearn":
            raise KeyboardInterrupt
        save(self, step, trees, facts)

    which = watched(floor=0.35)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Checkpoints, "save", dying)
        run(tmp_path / "unlearn", which)
    weight, _, _ = run(tmp_path / "unlearn", which)
    assert weight == 6.0


def test_a_checkpoint_of_other_settings_is_refused_with_the_difference(tmp_path):
    before = {"unlearn.learning_rate": 1e-5, "method.name": "npo", "method.beta": 0.1}
    now = {"unlearn.learning_rate": 2e-5, "method.name": "unilogit"}
    run(tmp_path / "unlearn", stage(settings=before))
    with pytest.raises(CheckpointError) as error:
        run(tmp_path / "unlearn", stage(settings=now))
    message = str(error.value)
    assert "method.beta was 0.1, is None; method.name was 'npo', is 'unilogit'" in message
    assert "unlearn.learning_rate was 1e-05, is 2e-05" in message
    assert run(tmp_path / "unlearn", stage(settings=before))[0] == STEPS


def test_memory_that_runs_out_is_answered_with_what_to_change(tmp_path):
    def full(state, batch):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.")

    which = replace(stage(memory_advice="Change a, b or c."), step_fn=full)
    with pytest.raises(TrainingError, match=r"more memory than the device has.*Change a, b or c"):
        run(tmp_path / "unlearn", which)


def test_an_interrupt_that_python_drops_ends_training_after_the_update(tmp_path):
    def dropped(i):
        if i == 5:
            with suppress(KeyboardInterrupt):  # as in a callback of the garbage collector
                os.kill(os.getpid(), signal.SIGINT)
        return one_batch(i)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "unlearn", replace(stage(), batch_at=dropped))
    assert signal.getsignal(signal.SIGINT) is before
    weight, lines, _ = run(tmp_path / "unlearn", stage())
    assert weight == STEPS and lines[0]["step"] == 5, "it went on from the checkpoint at 4"


def test_a_machine_that_asks_to_stop_after_the_last_update_is_heard(tmp_path):
    def late(weights):
        if weights["w"] == STEPS:  # the loop has asked already whether to leave
            os.kill(os.getpid(), signal.SIGTERM)
        return falling(weights)

    with pytest.raises(Preempted, match="update 10 of 10 is saved"):
        run(tmp_path / "unlearn", replace(watched(), evaluate=late))
    weight, lines, _ = run(tmp_path / "unlearn", watched())
    assert weight == STEPS and not lines


def test_other_errors_of_the_device_are_not_taken_for_it(tmp_path):
    def broken(state, batch):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")

    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
        run(tmp_path / "unlearn", replace(stage(), step_fn=broken))


def test_speed_is_logged_from_the_second_line_on_and_counts_real_tokens(tmp_path):
    flops = []

    def flops_of(lengths, supervised):
        flops.append((list(lengths), supervised))
        return 100.0

    _, lines, _ = run(tmp_path / "unlearn", stage(flops_of=flops_of, peak=1e3))
    assert "tokens_per_second" not in lines[0], "it holds the compiler's time"
    # 7 tokens and 100 operations an update: their ratio is known, their speed is not.
    for line in lines[1:]:
        assert line["mfu"] * 1e3 / line["tokens_per_second"] == pytest.approx(100 / 7)
    assert flops == [([4, 3], 8)] * STEPS


def test_a_profile_holds_a_trace(tmp_path):
    run(tmp_path / "unlearn", stage(profile=tmp_path / "profile"))
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))


def test_a_profile_of_a_short_stage_is_closed(tmp_path):
    run(tmp_path / "a", stage(profile=tmp_path / "short", steps=2))
    run(tmp_path / "b", stage(profile=tmp_path / "whole"))
    assert all(list((tmp_path / name).rglob("*.xplane.pb")) for name in ("short", "whole"))


FULL = """
import resource, sys
import jax.numpy as jnp
from unilogit_jax.errors import CheckpointError
from unilogit_jax.train import Checkpoints

small, large = jnp.arange(8.0), jnp.sin(jnp.arange(1e6))
try:
    with Checkpoints(sys.argv[1], keep=2) as checkpoints:
        checkpoints.save(1, {"params": {"w": small}}, {})
        checkpoints.wait()
        # The operating system refuses longer files from here on.
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        checkpoints.save(2, {"params": {"w": large}}, {})
except CheckpointError as error:
    print(error)
"""


def test_a_disk_that_is_full_is_one_sentence_and_the_checkpoint_before_is_intact(tmp_path):
    env = os.environ | {"JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path / "stage")],
        capture_output=True,
        text=True,
        env=env,
        check=True,
    )
    assert done.stdout.count("\n") == 1 and "File too large" in done.stdout
    assert "Checkpoint 1 is intact" in done.stdout
    assert "Traceback" not in done.stderr
    with Checkpoints(tmp_path / "stage") as checkpoints:
        trees, _ = checkpoints.restore({"params": {"w": jnp.zeros(8)}})
    assert np.array_equal(trees["params"]["w"], np.arange(8.0))


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"cannot open checkpoints in .*Not a directory"):
        Checkpoints(tmp_path / "file" / "stage")
