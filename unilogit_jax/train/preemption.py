# SPDX-License-Identifier: Apache-2.0
"""Notices that the machine, or somebody, wants the process to end."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

from unilogit_jax.hosts import several

_UPDATES = count(1)
"""Updates of all stages. JAX keeps one sync point for a process's whole life, which it sets behind
the last number that any process has asked about: numbers that began anew with a stage would not
reach it when the signal came between two stages, during an evaluation say."""


@contextmanager
def notice_sigterm() -> Iterator[Callable[[int], bool]]:
    """Yields `update -> bool`: whether to save after this update, and leave.

    SIGTERM is what schedulers send before they take a machine back. A second one ends the process
    at once. On several hosts JAX agrees on one update for all of them; signals can be caught in a
    program's main thread only, elsewhere the answer is no.
    """
    if several():
        from jax.experimental import multihost_utils

        yield lambda update: multihost_utils.reached_preemption_sync_point(next(_UPDATES))
        return
    if threading.current_thread() is not threading.main_thread():
        yield lambda update: False
        return
    came = False

    def remember(*_: Any) -> None:
        nonlocal came
        came = True
        signal.signal(signal.SIGTERM, before)

    before = signal.signal(signal.SIGTERM, remember)
    try:
        yield lambda update: came
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def notice_interrupt() -> Iterator[Callable[[], None]]:
    """Yields a check that raises KeyboardInterrupt if Ctrl-C came and nothing came of it.

    Python drops what is raised in a callback of its garbage collector, and JAX has one: training
    would go on. Where somebody else looks after the signal the check does nothing.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield lambda: None
        return
    came = False

    def interrupt(number: int, frame: Any) -> None:
        nonlocal came
        came = True
        signal.default_int_handler(number, frame)

    def check() -> None:
        if came:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def hold_interrupt() -> Iterator[None]:
    """A block that a first Ctrl-C does not cut off: it comes when the block is done.

    A second one comes at once. Outside of a program's main thread nothing is held.
    """
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT)
    if not main or not callable(before):
        yield
        return
    came: tuple[int, Any] | None = None

    def hold(number: int, frame: Any) -> None:
        nonlocal came
        came = (number, frame)
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, hold)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if came is not None:
            before(*came)
