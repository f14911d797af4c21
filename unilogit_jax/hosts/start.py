# SPDX-License-Identifier: Apache-2.0
"""Joins the other processes of a run, and says what is wrong where they do not come."""

import os
import sys
import threading
from pathlib import Path

from unilogit_jax.errors import ConfigError
from unilogit_jax.hosts.find import VARIABLES, Start, find_start

PATIENCE, SILENCE = 300, 15
"""Seconds to wait for the others, and how many of them without a word."""


def start_hosts() -> None:
    """Joins the other processes of the run, where there are any; before anything else asks JAX.

    Does nothing for a single process, or where the program has called
    `jax.distributed.initialize` itself.

    Raises:
      ConfigError: what the environment says is incomplete, or the processes do not meet.

    """
    import jax

    if jax.distributed.is_initialized():
        return
    start = find_start(os.environ, tpu_chips=_tpu_chips(), gpus=_gpus())
    if start is None:
        return
    met = threading.Event()
    threading.Thread(target=_watch, args=(start, met), daemon=True).start()
    try:
        jax.distributed.initialize(**start.arguments, initialization_timeout=PATIENCE + 60)
    except Exception as error:  # of many kinds: sockets, metadata servers, JAX's own
        reason = (" ".join(str(error).split()) or type(error).__name__)[:300].rstrip(".")
        raise ConfigError(_not_met(start, reason)) from error
    finally:
        met.set()


def _watch(start: Start, met: threading.Event) -> None:
    """Speaks up where others are late; where they do not come, JAX would end with a stack trace."""
    if met.wait(SILENCE):
        return
    print(f"waiting for other processes, which {start.source} tells of ...", file=sys.stderr)
    if met.wait(PATIENCE - SILENCE):
        return
    print(_not_met(start, f"not all came within {PATIENCE} s"), file=sys.stderr, flush=True)
    os._exit(2)


def _not_met(start: Start, reason: str) -> str:
    address = start.arguments.get("coordinator_address")
    where = f" at {address}" if address else ""
    return (
        f"the processes that {start.source} tells of did not meet{where}: {reason}. Start all of "
        f"them at about the same time, and see that the first one can be reached; "
        f"{', '.join(VARIABLES)} say where it is, how many there are, and which one this is."
    )


def _tpu_chips() -> int:
    # JAX knows the chips' PCI numbers, and offers nothing public that asks for them alone.
    from jax._src.hardware_utils import num_available_tpu_chips_and_device_id

    return num_available_tpu_chips_and_device_id()[0]


def _gpus() -> int:
    return len(list(Path("/dev").glob("nvidia[0-9]*")))
