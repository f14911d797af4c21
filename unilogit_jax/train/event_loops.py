# SPDX-License-Identifier: Apache-2.0
"""Event loops that end in order, for a library that closes its own with reads still under way."""

import asyncio
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def patient_event_loops() -> Iterator[None]:
    """Event loops that are made inside wait for all of their tasks before they close.

    Orbax reads the arrays of a checkpoint side by side, in a loop made for one restore. When an
    array cannot be read, it closes the loop at once; Python then prints a traceback for every other
    read as it is collected, long after the error itself was handled.

    Example:
      >>> with patient_event_loops():
      ...     loop = asyncio.new_event_loop()
      >>> task = loop.create_task(asyncio.sleep(0, "read"))
      >>> loop.close()
      >>> task.result()
      'read'

    """
    before = _exchange(_policy)
    try:
        yield
    finally:
        _exchange(lambda: before)


class _Loop(asyncio.SelectorEventLoop):
    def close(self) -> None:
        if not self.is_closed() and not self.is_running():
            left = asyncio.all_tasks(self)
            if left:
                self.run_until_complete(asyncio.wait(left))
            for task in left:
                # Looked at, or asyncio logs that nobody did.
                _ = task.cancelled() or task.exception()
        super().close()


def _exchange(
    make: Callable[[], asyncio.AbstractEventLoopPolicy],
) -> asyncio.AbstractEventLoopPolicy:
    """Sets a policy and returns the one before."""
    # Python 3.14 announces the end of policies, and has nothing to put in their place here.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        before = asyncio.get_event_loop_policy()
        asyncio.set_event_loop_policy(make())
    return before


def _policy() -> asyncio.AbstractEventLoopPolicy:
    class Policy(asyncio.DefaultEventLoopPolicy):
        def new_event_loop(self) -> asyncio.AbstractEventLoop:
            return _Loop()

    return Policy()
