# SPDX-License-Identifier: Apache-2.0
"""What accelerators can do: peak speed, memory, and TPUs that exist for the compiler only."""

import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple

from unilogit_jax.errors import ConfigError, suggest

GIB = 2**30


class Accelerator(NamedTuple):
    """One device, as JAX counts them."""

    name: str
    flops: float
    """Peak of dense bfloat16 matmuls per second, as its maker states it."""
    memory: int | None = None
    """Bytes that a program may use, by the TPU compiler; a GPU tells it itself."""


TPUS = {
    # JAX counts the two cores of a v4 and of a 7x chip as devices of their own.
    "TPU v4": Accelerator("TPU v4 core", 137.5e12, int(15.25 * GIB)),
    "TPU v5 lite": Accelerator("TPU v5e", 197e12, int(15.75 * GIB)),
    "TPU v5": Accelerator("TPU v5p", 459e12, int(95.74 * GIB)),
    "TPU v6 lite": Accelerator("TPU v6e", 918e12, int(31.25 * GIB)),
    "TPU7x": Accelerator("TPU 7x core", 1153.5e12, int(94.75 * GIB)),
}
"""By `device_kind`. Speeds: Google Cloud's pages of the versions; memory: what libtpu grants."""

GPUS = (
    Accelerator("B200", 2250e12),
    Accelerator("H200", 989e12),
    Accelerator("H100 PCIe", 756e12),
    Accelerator("H100", 989e12),
    Accelerator("A100", 312e12),
    Accelerator("L40S", 362e12),
    Accelerator("A10G", 70e12),
    Accelerator("L4", 121e12),
)
"""By a part of `device_kind`, the first that fits. Speeds: Nvidia's sheets, without sparsity."""

VERSIONS = ("v4", "v5e", "v5p", "v6e", "tpu7x")


def accelerator_of(device: Any) -> Accelerator | None:
    """What is known of a device; None on a CPU, or where its kind is not in the tables.

    Example:
      >>> import jax
      >>> accelerator_of(jax.devices("cpu")[0]) is None
      True

    """
    kind = device.device_kind
    found = TPUS.get(kind) or next((gpu for gpu in GPUS if gpu.name in kind), None)
    if device.platform not in ("gpu", "cuda"):
        return found
    limit = (device.memory_stats() or {}).get("bytes_limit")
    return (found or Accelerator(kind, 0.0))._replace(memory=limit)


def host_memory() -> int | None:
    """Bytes of memory of this machine; None where the system does not tell."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def peak_memory(devices: Sequence[Any]) -> dict[str, int]:
    """Most bytes that this process and the fullest of its devices held at a time; what is known.

    Args:
      devices: those of this process.

    Example:
      >>> import jax
      >>> peak_memory(jax.devices("cpu"))["host"] > 0
      True

    """
    found = {}
    if find_spec("resource"):
        import resource

        # In kilobytes, but on macOS.
        unit = 1 if sys.platform == "darwin" else 1024
        found["host"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    peaks = [(device.memory_stats() or {}).get("peak_bytes_in_use", 0) for device in devices]
    if any(peaks):
        found["device"] = max(peaks)
    return found


def topology_devices(name: str) -> Sequence[Any]:
    """Devices of a TPU slice such as "v5e:4x4": programs compile for them, and cannot run.

    Raises:
      ConfigError: there is no such slice, or libtpu, the compiler, is not installed.

    """
    version, _, shape = name.partition(":")
    if version not in VERSIONS or not shape.replace("x", "").isdigit():
        raise ConfigError(
            f"--topology {name}: no such TPU slice.{suggest(version, VERSIONS)} Write version and "
            f"shape, such as v5e:4x4 or v5p:2x2x1; known versions: {', '.join(VERSIONS)}."
        )
    if find_spec("libtpu") is None:
        raise ConfigError(
            f"--topology {name} needs libtpu, the TPU compiler, which runs without a TPU too: "
            "pip install 'jax[tpu]'."
        )
    from jax.experimental import topologies

    _quiet_libtpu()
    try:
        return topologies.get_topology_desc(platform="tpu", topology_name=name).devices
    except Exception as error:  # the compiler has no error class of its own
        reason = str(error).rpartition("INVALID_ARGUMENT: ")[2].partition("\n")[0]
        raise ConfigError(f"--topology {name} is no TPU slice: {reason}.") from None


def _quiet_libtpu() -> None:
    """What libtpu would otherwise look for on this machine, and complain of."""
    for key, value in {
        "TPU_ACCELERATOR_TYPE": "v5litepod-4",
        "TPU_WORKER_HOSTNAMES": "localhost",
        "TPU_SKIP_MDS_QUERY": "1",
        "TPU_LOG_DIR": "disabled",
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # a plan beside another, or beside a run
    }.items():
        os.environ.setdefault(key, value)
