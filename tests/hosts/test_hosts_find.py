# SPDX-License-Identifier: Apache-2.0
"""How a process finds the others, from the variables that launchers set."""

import pytest

from unilogit_jax.errors import ConfigError
from unilogit_jax.hosts import find_start

EXPLICIT = {
    "JAX_COORDINATOR_ADDRESS": "10.0.0.1:1234",
    "JAX_NUM_PROCESSES": "4",
    "JAX_PROCESS_ID": "3",
}
# As srun sets them for the fourth task of `srun --nodes 2 --ntasks-per-node 2`.
SLURM = {
    "SLURM_JOB_ID": "77",
    "SLURM_NTASKS": "4",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
    "SLURM_STEP_NODELIST": "node[01-02]",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
}
MPI = {
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_RANK": "3",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
}


def test_a_machine_by_itself_starts_nothing():
    assert find_start({}, gpus=8) is None
    assert find_start({"JAX_PLATFORMS": "cpu"}, tpu_chips=4) is None
    assert find_start(EXPLICIT | {"JAX_NUM_PROCESSES": "1", "JAX_PROCESS_ID": "0"}) is None


def test_three_variables_say_it_all_and_win():
    start = find_start(EXPLICIT | SLURM | MPI, tpu_chips=4)
    assert start is not None and start.arguments == {
        "coordinator_address": "10.0.0.1:1234",
        "num_processes": 4,
        "process_id": 3,
        "cluster_detection_method": "deactivate",
    }


@pytest.mark.parametrize("missing", EXPLICIT)
def test_an_incomplete_set_of_variables_is_refused_by_the_missing_name(missing):
    rest = {name: value for name, value in EXPLICIT.items() if name != missing}
    with pytest.raises(ConfigError, match=f"without {missing}: a run on several hosts needs"):
        find_start(rest)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("JAX_PROCESS_ID", "4", "must be from 0 to JAX_NUM_PROCESSES - 1 = 3"),
        ("JAX_PROCESS_ID", "-1", "must be from 0"),
        ("JAX_NUM_PROCESSES", "two", "must be a whole number, got 'two'"),
        ("JAX_COORDINATOR_ADDRESS", "10.0.0.1", "must be host:port"),
    ],
)
def test_variables_that_make_no_sense_are_refused(name, value, message):
    with pytest.raises(ConfigError, match=message):
        find_start(EXPLICIT | {name: value})


def test_a_job_step_of_slurm_is_left_to_jax_but_for_the_number_of_tasks():
    start = find_start(SLURM)
    assert start is not None
    assert start.arguments == {"cluster_detection_method": "slurm", "num_processes": 4}
    # In the shell of `salloc --ntasks 4`: a step of one task in an allocation of four.
    assert find_start(SLURM | {"SLURM_STEP_NUM_TASKS": "1"}) is None
    # In a batch script, outside of any step.
    batch = {name: value for name, value in SLURM.items() if "STEP" not in name}
    assert find_start(batch) is None


@pytest.mark.parametrize(
    ("changes", "gpus", "devices"),
    [
        ({}, 2, [1]),
        ({}, 8, [4, 5, 6, 7]),
        ({"SLURM_STEP_TASKS_PER_NODE": "2,1", "SLURM_LOCALID": "0"}, 8, list(range(8))),
        ({"CUDA_VISIBLE_DEVICES": "3"}, 8, [0]),
        ({"SLURM_GPUS_PER_TASK": "2", "CUDA_VISIBLE_DEVICES": "0,1"}, 8, [0, 1]),
        ({"CUDA_VISIBLE_DEVICES": ""}, 8, None),
        ({"JAX_LOCAL_DEVICE_IDS": "0,2"}, 8, None),
    ],
)
def test_the_tasks_of_a_node_share_all_its_gpus(changes, gpus, devices):
    start = find_start(SLURM | changes, gpus=gpus)
    assert start is not None and start.arguments.get("local_device_ids") == devices


def test_more_tasks_than_gpus_are_refused():
    with pytest.raises(ConfigError, match="8 tasks on one node share 4 GPUs"):
        find_start(SLURM | {"SLURM_STEP_TASKS_PER_NODE": "8(x2)"}, gpus=4)


def test_open_mpi_is_left_to_jax_or_needs_an_address():
    start = find_start(MPI | {"OMPI_MCA_orte_hnp_uri": "1314521088.0;tcp://10.96.0.1:34911"})
    assert start is not None and start.arguments == {"cluster_detection_method": "ompi"}
    with pytest.raises(ConfigError, match="mpirun -x JAX_COORDINATOR_ADDRESS=host:port"):
        find_start(MPI)
    start = find_start(MPI | {"JAX_COORDINATOR_ADDRESS": "a:1"}, gpus=4)
    assert start is not None and start.arguments["process_id"] == 3
    assert start.arguments["local_device_ids"] == [2, 3]


@pytest.mark.parametrize(
    ("environ", "joins"),
    [
        ({}, True),  # a machine of Google's: its metadata server knows
        ({"JAX_PLATFORMS": "tpu,cpu"}, True),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, True),
        ({"TPU_WORKER_HOSTNAMES": "a"}, False),
        ({"TPU_WORKER_HOSTNAMES": "a", "MEGASCALE_NUM_SLICES": "2"}, True),
        ({"TPU_SKIP_MDS_QUERY": "1"}, False),
    ],
)
def test_hosts_of_a_tpu_slice_join_without_arguments(environ, joins):
    start = find_start(environ, tpu_chips=4)
    assert (start is not None) == joins
    assert start is None or start.arguments == {}
    assert find_start(environ, tpu_chips=0) is None
