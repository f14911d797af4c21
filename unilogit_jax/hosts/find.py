# SPDX-License-Identifier: Apache-2.0
"""How a process joins the others of its run: from variables, SLURM, Open MPI or a TPU pod."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from unilogit_jax.errors import ConfigError

ADDRESS, COUNT, NUMBER = VARIABLES = (
    "JAX_COORDINATOR_ADDRESS",
    "JAX_NUM_PROCESSES",
    "JAX_PROCESS_ID",
)
"""Where the first process listens (host:port), how many there are, which of them this one is."""


@dataclass(frozen=True)
class Start:
    """How this process joins the others."""

    source: str
    """What said so: "the environment", "SLURM", "Open MPI" or "the TPU pod"."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """Of `jax.distributed.initialize`; JAX finds out what is not among them."""


def find_start(environ: Mapping[str, str], *, tpu_chips: int = 0, gpus: int = 0) -> Start | None:
    """How to join the other processes, from environment variables; None for a single process.

    The first that applies: the three variables of `VARIABLES`, a job step of SLURM with several
    tasks, Open MPI's mpirun, the hosts of a TPU slice. Kubernetes has the first of these: a JobSet
    or an indexed Job sets the variables from its completion index and the name of its service.

    Args:
      environ: the environment variables.
      tpu_chips: chips attached to this machine. A library for TPUs may be installed on any.
      gpus: NVIDIA GPUs of this machine, for tasks of SLURM and Open MPI to share.

    Raises:
      ConfigError: variables are missing or make no sense.

    Example:
      >>> find_start({}) is None
      True
      >>> find_start({}, tpu_chips=4)
      Start(source='the TPU pod', arguments={})

    """
    set_here = [name for name in VARIABLES if environ.get(name)]
    slurm, mpi = _slurm_tasks(environ), _number(environ, "OMPI_COMM_WORLD_SIZE", 1)
    if set_here and not (set_here == [ADDRESS] and max(slurm, mpi) > 1):
        return _from_variables(environ, set_here)
    if slurm > 1:
        return _from_slurm(environ, slurm, gpus)
    if mpi > 1:
        return _from_mpi(environ, mpi, gpus)
    return _from_tpu(environ) if tpu_chips else None


def _from_variables(environ: Mapping[str, str], set_here: list[str]) -> Start | None:
    if missing := [name for name in VARIABLES if name not in set_here]:
        raise ConfigError(
            f"{' and '.join(set_here)} without {' and '.join(missing)}: a run on several hosts "
            f"needs all of {', '.join(VARIABLES)}, a run on one needs none."
        )
    address = environ[ADDRESS]
    if not re.fullmatch(r".+:\d+", address):
        raise ConfigError(f"{ADDRESS} must be host:port of the first process, got '{address}'.")
    count, number = _number(environ, COUNT, 1), _number(environ, NUMBER, 0)
    if not 0 <= number < count:
        raise ConfigError(f"{NUMBER} = {number} must be from 0 to {COUNT} - 1 = {count - 1}.")
    return None if count == 1 else Start("the environment", _explicit(address, count, number))


def _from_slurm(environ: Mapping[str, str], tasks: int, gpus: int) -> Start:
    # One entry for each node of the step: "8(x2),4" is 8, 8, 4.
    per_node: list[int] = []
    for size, times in re.findall(
        r"(\d+)(?:\(x(\d+)\))?", environ.get("SLURM_STEP_TASKS_PER_NODE", "")
    ):
        per_node += [int(size)] * int(times or 1)
    node = _number(environ, "SLURM_NODEID", 0)
    here = per_node[node] if node < len(per_node) else 1
    bound = bool(environ.get("SLURM_GPUS_PER_TASK"))
    local = _local_devices(environ, here, _number(environ, "SLURM_LOCALID", 0), gpus, bound)
    # Inside `salloc` SLURM_NTASKS is that of the allocation, which is what JAX would take.
    return Start("SLURM", {"cluster_detection_method": "slurm", "num_processes": tasks, **local})


def _from_mpi(environ: Mapping[str, str], tasks: int, gpus: int) -> Start:
    rank = _number(environ, "OMPI_COMM_WORLD_LOCAL_RANK", 0)
    here = _number(environ, "OMPI_COMM_WORLD_LOCAL_SIZE", 1)
    local = _local_devices(environ, here, rank, gpus, False)
    if environ.get(ADDRESS):
        number = _number(environ, "OMPI_COMM_WORLD_RANK", 0)
        return Start("Open MPI", _explicit(environ[ADDRESS], tasks, number) | local)
    if "OMPI_MCA_orte_hnp_uri" in environ:
        return Start("Open MPI", {"cluster_detection_method": "ompi", **local})
    # Open MPI 5 does not say where its launcher is.
    raise ConfigError(
        f"Open MPI started {tasks} processes and does not say where the first one is: pass it on, "
        f"as in mpirun -x {ADDRESS}=host:port."
    )


def _from_tpu(environ: Mapping[str, str]) -> Start | None:
    """What JAX needs on a TPU it finds itself, in variables of GKE or from the metadata server."""
    platforms = environ.get("JAX_PLATFORMS", "")
    if platforms and "tpu" not in platforms.split(","):
        return None
    names = environ.get("TPU_PROCESS_ADDRESSES") or environ.get("TPU_WORKER_HOSTNAMES")
    alone = bool(environ.get("TPU_SKIP_MDS_QUERY")) if names is None else "," not in names
    if alone and _number(environ, "MEGASCALE_NUM_SLICES", 1) == 1:
        return None
    return Start("the TPU pod")


def _explicit(address: str, count: int, number: int) -> dict[str, Any]:
    return {
        "coordinator_address": address,
        "num_processes": count,
        "process_id": number,
        "cluster_detection_method": "deactivate",
    }


def _slurm_tasks(environ: Mapping[str, str]) -> int:
    """Tasks of this job step; 1 outside of one, a batch script say."""
    if not environ.get("SLURM_STEP_NODELIST"):
        return 1
    return _number(environ, "SLURM_STEP_NUM_TASKS", _number(environ, "SLURM_NTASKS", 1))


def _local_devices(
    environ: Mapping[str, str], tasks: int, rank: int, gpus: int, bound: bool
) -> dict[str, list[int]]:
    """Which GPUs of a node a task takes; JAX by itself would take one, whatever is there."""
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        gpus = len([name for name in visible.split(",") if name.strip() not in ("", "-1")])
    if not gpus or environ.get("JAX_LOCAL_DEVICE_IDS"):
        return {}
    if tasks == 1 or gpus == 1 or bound:
        return {"local_device_ids": list(range(gpus))}
    if tasks > gpus:
        raise ConfigError(
            f"{tasks} tasks on one node share {gpus} GPUs: start one task per node, or one per GPU."
        )
    share = gpus // tasks
    return {"local_device_ids": list(range(rank * share, (rank + 1) * share))}


def _number(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name) or str(default)
    try:
        return int(text)
    except ValueError:
        raise ConfigError(f"{name} must be a whole number, got '{text}'.") from None
