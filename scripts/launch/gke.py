# SPDX-License-Identifier: Apache-2.0
"""Fills in gke_jobset.yaml for a TPU slice or GPU nodes and hands it to kubectl, or prints it."""

import argparse
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

MANIFEST = Path(__file__).with_name("gke_jobset.yaml")

ACCELERATORS = {
    "v4": "tpu-v4-podslice",
    "v5e": "tpu-v5-lite-podslice",
    "v5p": "tpu-v5p-slice",
    "v6e": "tpu-v6e-slice",
}
"""Generation -> label of its GKE nodes; this and the slices are from GKE's page "Plan TPUs"."""

FLAT = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
"""Slices of v5e and v6e."""

SMALL_CUBES = ("2x2x1", "2x2x2", "2x2x4", "2x4x4")
"""Slices of v4 and v5p below one cube; from there on, all sides are multiples of four."""

COORDINATOR_PORT = 8476


def main(argv: list[str] | None = None) -> int:
    # Intermixed: options may stand between CONFIG and key=value.
    args = _parser().parse_intermixed_args(argv)
    try:
        text = yaml.safe_dump(manifest(args), sort_keys=False, width=1000)
    except ValueError as error:
        print(f"gke.py: {error}", file=sys.stderr)
        return 2
    if args.dry_run:
        print(text, end="")
        return 0
    if shutil.which("kubectl") is None:
        print("gke.py: kubectl is not on the PATH; --dry-run prints the manifest.", file=sys.stderr)
        return 2
    return subprocess.run(["kubectl", "apply", "-f", "-"], input=text, text=True).returncode


def manifest(args: argparse.Namespace) -> dict[str, Any]:
    """The JobSet for these arguments.

    Raises:
      ValueError: the name, the slice or the number of hosts is none that GKE has.

    """
    # JobSet appends -worker-0-NNN, and the whole is a host's name of at most 63 characters.
    if not re.fullmatch(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?", args.name):
        raise ValueError(
            f"the name '{args.name}' has to be lower-case letters, digits and dashes, "
            "start with a letter, end with no dash, and have at most 40 characters."
        )
    jobset = yaml.safe_load(MANIFEST.read_text(encoding="utf-8"))
    jobset["metadata"]["name"] = args.name
    job = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    container["image"] = args.image
    out = args.out or f"/shared/runs/{args.name}"
    # Kubernetes expands $(NAME) in arguments; a doubled $ stands for itself.
    words = [args.verb, out, args.config, *args.overrides]
    container["args"] = [word.replace("$", "$$") for word in words]
    if args.claim:
        pod["volumes"][0]["persistentVolumeClaim"]["claimName"] = args.claim
    else:
        del pod["volumes"], container["volumeMounts"]
    hosts = _on_tpus(pod, args) if args.tpu else _on_gpus(jobset, pod, args)
    job["completions"] = job["parallelism"] = hosts
    return jobset


def slice_hosts(tpu: str, *, chips_per_host: int | None = None) -> tuple[int, int]:
    """Hosts of a TPU slice such as v5e:4x4, and the chips of each.

    Example:
      >>> slice_hosts("v5e:4x4")
      (4, 4)

    Raises:
      ValueError: there is no such slice.

    """
    generation, _, topology = tpu.partition(":")
    if generation not in ACCELERATORS:
        raise ValueError(
            f"--tpu {tpu}: write one of {', '.join(ACCELERATORS)} and a topology, as in v5e:4x4."
        )
    if generation in ("v5e", "v6e"):
        if topology not in FLAT:
            raise ValueError(f"{generation} has no slice '{topology}'; it has {', '.join(FLAT)}.")
    elif topology not in SMALL_CUBES and not _is_cube(topology):
        raise ValueError(
            f"{generation} has no slice '{topology}'; it has {', '.join(SMALL_CUBES)}, and larger "
            "ones whose sides are multiples of 4 in rising order, such as 4x4x8."
        )
    chips = math.prod(int(side) for side in topology.split("x"))
    # A slice of 8 is one host with 8 chips unless the node pool's machines have 4.
    usual = chips if topology in ("1x1", "2x4") else 4
    per_host = chips_per_host or usual
    if per_host not in {usual, 4} or chips % per_host:
        raise ValueError(f"{tpu} has {chips} chips; its hosts cannot have {per_host} each.")
    return chips // per_host, per_host


def _is_cube(topology: str) -> bool:
    if not re.fullmatch(r"[1-9]\d*x[1-9]\d*x[1-9]\d*", topology):
        return False
    sides = [int(side) for side in topology.split("x")]
    return sides == sorted(sides) and all(side % 4 == 0 for side in sides)


def _on_tpus(pod: dict[str, Any], args: argparse.Namespace) -> int:
    """Sets the nodes and chips of a slice; gives its number of hosts."""
    hosts, chips = slice_hosts(args.tpu, chips_per_host=args.chips_per_host)
    if args.hosts not in (None, hosts):
        raise ValueError(f"{args.tpu} has {hosts} hosts of {chips} chips, not {args.hosts}.")
    generation, topology = args.tpu.split(":")
    pod["nodeSelector"] = {
        "cloud.google.com/gke-tpu-accelerator": ACCELERATORS[generation],
        "cloud.google.com/gke-tpu-topology": topology,
    }
    pod["containers"][0]["resources"] = {"limits": {"google.com/tpu": chips}}
    return hosts


def _on_gpus(jobset: dict[str, Any], pod: dict[str, Any], args: argparse.Namespace) -> int:
    """Sets the nodes, the GPUs, and where process 0 listens; gives the number of hosts."""
    hosts = 1 if args.hosts is None else args.hosts
    if hosts < 1 or args.gpus_per_host < 1:
        raise ValueError("--hosts and --gpus-per-host have to be at least 1.")
    # Any node pools with these GPUs will do.
    del jobset["metadata"]["annotations"]
    pod["nodeSelector"] = {"cloud.google.com/gke-accelerator": args.gpu}
    first = f"{args.name}-worker-0-0.{args.name}:{COORDINATOR_PORT}"
    index = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    pod["containers"][0] |= {
        "resources": {"limits": {"nvidia.com/gpu": args.gpus_per_host}},
        "env": [
            {"name": "JAX_COORDINATOR_ADDRESS", "value": first},
            {"name": "JAX_NUM_PROCESSES", "value": str(hosts)},
            {"name": "JAX_PROCESS_ID", "valueFrom": {"fieldRef": {"fieldPath": index}}},
        ],
    }
    return hosts


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gke.py", description=__doc__)
    parser.add_argument("name", help="of the JobSet, and of the run's folder")
    parser.add_argument(
        "config", metavar="CONFIG", help="a packaged name, a file in the pods, or gs://"
    )
    parser.add_argument("overrides", metavar="key=value", nargs="*")
    parser.add_argument("--image", required=True, help="with this package in /unilogit_jax")
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument("--tpu", metavar="GEN:TOPOLOGY", help="such as v5e:4x4; hosts follow from it")
    kind.add_argument("--gpu", metavar="TYPE", help="such as nvidia-h100-80gb")
    parser.add_argument("--hosts", type=int, help="with --gpu (default 1); with --tpu, checked")
    parser.add_argument("--gpus-per-host", type=int, default=8)
    parser.add_argument(
        "--chips-per-host", type=int, help="4 where v5e:2x4 or v6e:2x4 is two hosts"
    )
    parser.add_argument(
        "--claim",
        default="shared",
        help="PersistentVolumeClaim, seen as /shared; '' where all files are at gs://",
    )
    parser.add_argument("--out", help="run folder, gs://... too (default /shared/runs/NAME)")
    parser.add_argument("--verb", choices=["unlearn", "finetune"], default="unlearn")
    parser.add_argument("--dry-run", action="store_true", help="print the manifest, call nothing")
    return parser


if __name__ == "__main__":
    sys.exit(main())
