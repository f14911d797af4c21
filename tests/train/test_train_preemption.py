# SPDX-License-Identifier: Apache-2.0
import signal
import threading

import jax.numpy as jnp
import numpy as np
import pytest

from unilogit_jax.train import Checkpoints
from unilogit_jax.train.preemption import hold_interrupt

TREES = {"params": {"w": jnp.arange(4.0)}}


def ctrl_c():
    signal.raise_signal(signal.SIGINT)


def test_ctrl_c_in_a_save_comes_when_the_save_is_done(tmp_path, monkeypatch):
    with pytest.raises(KeyboardInterrupt), Checkpoints(tmp_path / "stage") as checkpoints:
        save = checkpoints._manager.save

        def interrupted(*words, **options):
            ctrl_c()
            return save(*words, **options)

        monkeypatch.setattr(checkpoints._manager, "save", interrupted)
        checkpoints.save(1, TREES, {})
    with Checkpoints(tmp_path / "stage") as checkpoints:
        found, _ = checkpoints.restore(TREES)
    np.testing.assert_array_equal(found["params"]["w"], TREES["params"]["w"])


def test_a_second_ctrl_c_comes_at_once():
    before, reached = signal.getsignal(signal.SIGINT), []
    with pytest.raises(KeyboardInterrupt), hold_interrupt():
        ctrl_c()
        reached.append(1)
        ctrl_c()
        reached.append(2)
    assert reached == [1]
    assert signal.getsignal(signal.SIGINT) is before


def test_an_error_under_which_ctrl_c_was_held_is_its_context():
    with pytest.raises(KeyboardInterrupt) as caught, hold_interrupt():
        ctrl_c()
        raise OSError("full")
    assert isinstance(caught.value.__context__, OSError)


def test_other_threads_hold_nothing():
    seen = []

    def work():
        with hold_interrupt():
            seen.append(signal.getsignal(signal.SIGINT))

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
