# SPDX-License-Identifier: Apache-2.0
"""The JobSet for GKE: field names and values that its API takes, and the hosts that a slice has."""

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import pytest
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

LAUNCH = Path(__file__).parents[2] / "scripts" / "launch"
Count = Annotated[int, Field(ge=1)]
Label = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", max_length=63)]


class Strict(BaseModel):
    """The part of the API (jobset.x-k8s.io/v1alpha2, batch/v1, v1) that is used here; no more."""

    model_config = ConfigDict(extra="forbid", strict=True)


class FieldRef(Strict):
    fieldPath: str


class ValueFrom(Strict):
    fieldRef: FieldRef


class Env(Strict):
    name: Annotated[str, Field(pattern=r"^[A-Z_]+$")]
    value: str | None = None
    valueFrom: ValueFrom | None = None


class Resources(Strict):
    limits: dict[Literal["google.com/tpu", "nvidia.com/gpu"], Count]


class Mount(Strict):
    name: Label
    mountPath: Annotated[str, Field(pattern="^/")]


class Container(Strict):
    name: Label
    image: str
    command: list[str]
    args: list[str]
    env: list[Env] = []
    resources: Resources
    volumeMounts: list[Mount] = []


class Claim(Strict):
    claimName: Label


class Volume(Strict):
    name: Label
    persistentVolumeClaim: Claim


class PodSpec(Strict):
    # A Job takes no other value together with podFailurePolicy.
    restartPolicy: Literal["Never"]
    terminationGracePeriodSeconds: Count
    nodeSelector: dict[str, str]
    containers: Annotated[list[Container], Field(min_length=1)]
    volumes: list[Volume] = []


class Pod(Strict):
    spec: PodSpec


class ExitCodes(Strict):
    containerName: str
    operator: Literal["In", "NotIn"]
    values: list[Count]


class PodRule(Strict):
    action: Literal["FailJob", "FailIndex", "Ignore", "Count"]
    onExitCodes: ExitCodes


class PodFailurePolicy(Strict):
    rules: list[PodRule]


class JobSpec(Strict):
    completionMode: Literal["Indexed"]
    completions: Count
    parallelism: Count
    backoffLimit: int
    podFailurePolicy: PodFailurePolicy
    template: Pod


class Job(Strict):
    spec: JobSpec


class ReplicatedJob(Strict):
    name: Label
    replicas: Count
    template: Job


class Rule(Strict):
    name: Annotated[str, Field(pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$")]
    action: Literal["FailJobSet", "RestartJobSet", "RestartJobSetAndIgnoreMaxRestarts"]
    onJobFailureReasons: list[
        Literal["BackoffLimitExceeded", "DeadlineExceeded", "PodFailurePolicy"]
    ]


class FailurePolicy(Strict):
    maxRestarts: Count
    rules: list[Rule]


class JobSetSpec(Strict):
    failurePolicy: FailurePolicy
    replicatedJobs: Annotated[list[ReplicatedJob], Field(min_length=1)]


class Metadata(Strict):
    name: Label
    annotations: dict[str, str] = {}


class JobSet(Strict):
    apiVersion: Literal["jobset.x-k8s.io/v1alpha2"]
    kind: Literal["JobSet"]
    metadata: Metadata
    spec: JobSetSpec


def read(text):
    """The checked JobSet with its only job, pod and container."""
    jobset = JobSet.model_validate(yaml.safe_load(text))
    (job,) = jobset.spec.replicatedJobs
    pod = job.template.spec.template.spec
    (container,) = pod.containers
    return jobset, job.template.spec, pod, container


def render(stubs, *words):
    done = stubs.run(sys.executable, LAUNCH / "gke.py", "--dry-run", "--image", "img", *words)
    assert done.returncode == 0, done.stderr
    return read(done.stdout)


def test_the_manifest_is_a_jobset_as_it_stands_and_its_parts_fit():
    _, job, pod, container = read((LAUNCH / "gke_jobset.yaml").read_text())
    assert pod.nodeSelector["cloud.google.com/gke-tpu-topology"] == "4x4"
    assert job.completions * container.resources.limits["google.com/tpu"] == 4 * 4
    assert {m.name for m in container.volumeMounts} == {v.name for v in pod.volumes}
    assert job.podFailurePolicy.rules[0].onExitCodes.containerName == container.name
    script = Path(container.command[0])
    assert script.parts[:2] == ("/", "unilogit_jax")
    assert os.access(LAUNCH.parents[1] / script.relative_to("/unilogit_jax"), os.X_OK)


def test_the_schema_refuses_a_field_that_the_api_does_not_know():
    tree = yaml.safe_load((LAUNCH / "gke_jobset.yaml").read_text())
    tree["spec"]["replicatedJobs"][0]["template"]["spec"]["completion"] = 4
    with pytest.raises(ValidationError, match="completion"):
        JobSet.model_validate(tree)


# From the tables of GKE's page "Plan TPUs": slice, label, hosts, chips per host.
SLICES = [
    ("v5e:1x1", "tpu-v5-lite-podslice", 1, 1),
    ("v5e:2x2", "tpu-v5-lite-podslice", 1, 4),
    ("v5e:2x4", "tpu-v5-lite-podslice", 1, 8),
    ("v5e:4x4", "tpu-v5-lite-podslice", 4, 4),
    ("v5e:16x16", "tpu-v5-lite-podslice", 64, 4),
    ("v6e:4x8", "tpu-v6e-slice", 8, 4),
    ("v5p:2x2x1", "tpu-v5p-slice", 1, 4),
    ("v5p:2x2x2", "tpu-v5p-slice", 2, 4),
    ("v5p:4x4x4", "tpu-v5p-slice", 16, 4),
    ("v4:4x4x8", "tpu-v4-podslice", 32, 4),
]


@pytest.mark.parametrize(("tpu", "label", "hosts", "chips"), SLICES)
def test_a_slice_gets_a_pod_for_each_of_its_hosts_with_all_its_chips(
    stubs, tpu, label, hosts, chips
):
    _, job, pod, container = render(stubs, "--tpu", tpu, "run", "toy")
    assert (job.completions, job.parallelism) == (hosts, hosts)
    assert container.resources.limits == {"google.com/tpu": chips}
    assert pod.nodeSelector == {
        "cloud.google.com/gke-tpu-accelerator": label,
        "cloud.google.com/gke-tpu-topology": tpu.split(":")[1],
    }
    assert container.env == [], "TPU pods are found by GKE's own variables"


def test_a_slice_of_eight_may_be_two_hosts(stubs):
    words = ["--tpu", "v6e:2x4", "--chips-per-host", "4", "run", "toy"]
    _, job, _, container = render(stubs, *words)
    assert (job.completions, container.resources.limits) == (2, {"google.com/tpu": 4})


def test_arguments_reach_the_run_unchanged_and_unexpanded(stubs):
    words = ["unlearn.learning_rates={embed: 0.1}", "name=it's: $(HOME) $$ #", 'a="b"', "b=null"]
    options = ["--tpu", "v5e:4x4", "--claim", "lab", "--verb", "finetune"]
    jobset, _, pod, container = render(stubs, "my-run", "/shared/my config.yaml", *words, *options)
    # What Kubernetes makes of $$; there is no other reference left.
    seen = [word.replace("$$", "$") for word in container.args]
    assert seen == ["finetune", "/shared/runs/my-run", "/shared/my config.yaml", *words]
    assert not any("$" in word.replace("$$", "") for word in container.args)
    assert (jobset.metadata.name, container.image) == ("my-run", "img")
    assert pod.volumes[0].persistentVolumeClaim.claimName == "lab"


def test_pods_whose_files_are_all_in_a_bucket_need_no_volume(stubs):
    words = ["--tpu", "v5e:4x4", "--claim", "", "--out", "gs://b/runs/x", "lab", "gs://b/my.yaml"]
    _, _, pod, container = render(stubs, *words)
    assert container.args == ["unlearn", "gs://b/runs/x", "gs://b/my.yaml"]
    assert pod.volumes == [] and container.volumeMounts == []


def test_gpu_nodes_are_told_where_process_0_is_and_who_they_are(stubs):
    words = ["--gpu", "nvidia-h100-80gb", "--hosts", "2", "--gpus-per-host", "4", "lab", "toy"]
    jobset, job, pod, container = render(stubs, *words)
    assert (job.completions, job.parallelism) == (2, 2)
    assert container.resources.limits == {"nvidia.com/gpu": 4}
    assert pod.nodeSelector == {"cloud.google.com/gke-accelerator": "nvidia-h100-80gb"}
    assert jobset.metadata.annotations == {}
    env = {e.name: e.value or e.valueFrom.fieldRef.fieldPath for e in container.env}
    replicated = jobset.spec.replicatedJobs[0].name
    # Pods are called JOBSET-JOB-replica-index and live in a subdomain called as the JobSet.
    host, port = env.pop("JAX_COORDINATOR_ADDRESS").split(":")
    assert host == f"{jobset.metadata.name}-{replicated}-0-0.{jobset.metadata.name}"
    assert 1024 < int(port) < 32768
    assert env == {
        "JAX_NUM_PROCESSES": "2",
        "JAX_PROCESS_ID": "metadata.annotations['batch.kubernetes.io/job-completion-index']",
    }


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--tpu", "v5e:3x3"], "v5e has no slice '3x3'"),
        (["--tpu", "v5e:4x4x4"], "no slice"),
        (["--tpu", "v5p:4x4"], "no slice"),
        (["--tpu", "v5p:8x4x4"], "rising order"),
        (["--tpu", "v5p:4x4x6"], "multiples of 4"),
        (["--tpu", "v5e"], "v5e has no slice ''"),
        (["--tpu", "v9:2x2"], "v4, v5e, v5p, v6e"),
        (["--tpu", "v5e:4x4", "--hosts", "2"], "has 4 hosts"),
        (["--tpu", "v5e:4x4", "--chips-per-host", "8"], "cannot have 8"),
        (["--gpu", "nvidia-l4", "--hosts", "0"], "at least 1"),
        (["--gpu", "nvidia-l4", "--tpu", "v5e:4x4"], "not allowed with"),
        ([], "required"),
    ],
)
def test_nonsense_is_refused_and_nothing_applied(stubs, words, said):
    stubs.add("kubectl")
    done = stubs.run(sys.executable, LAUNCH / "gke.py", "--image", "img", *words, "run", "toy")
    assert done.returncode == 2 and said in done.stderr
    assert done.stdout == "" and stubs.calls() == []


@pytest.mark.parametrize("name", ["Upper", "9lives", "dash-", "a" * 41, "under_score"])
def test_a_name_that_no_host_can_have_is_refused(stubs, name):
    command = [sys.executable, LAUNCH / "gke.py", "--dry-run", "--image", "i", "--tpu", "v5e:4x4"]
    done = stubs.run(*command, name, "toy")
    assert done.returncode == 2 and "lower-case" in done.stderr


def test_the_dry_run_prints_what_kubectl_is_given_and_does_not_call_it(stubs, tmp_path):
    stubs.add("kubectl", stdin=tmp_path / "applied.yaml")
    words = ["--image", "img", "--tpu", "v5e:4x4", "run", "toy"]
    shown = stubs.run(sys.executable, LAUNCH / "gke.py", "--dry-run", *words)
    assert stubs.calls() == []
    assert stubs.run(sys.executable, LAUNCH / "gke.py", *words).returncode == 0
    assert stubs.calls() == [["kubectl", "apply", "-f", "-"]]
    assert (tmp_path / "applied.yaml").read_text() == shown.stdout
