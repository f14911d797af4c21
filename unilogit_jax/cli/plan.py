# SPDX-License-Identifier: Apache-2.0
"""`unilogit plan`: what a run will need, before weights are fetched."""

import argparse
import os
from dataclasses import asdict

from unilogit_jax.cli._jax import use_compilation_cache
from unilogit_jax.cli._output import Result
from unilogit_jax.cli._training import add_config, read


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """CONFIG, overrides, --topology, --no-compile."""
    add_config(parser)
    parser.add_argument(
        "--topology",
        metavar="SLICE",
        help="a TPU slice to compile for, such as v5e:4x4; by default the devices that are here",
    )
    parser.add_argument(
        "--no-compile", action="store_true", help="check shapes and count sizes only: seconds"
    )
    parser.epilog = """examples:
  unilogit plan my.yaml
  unilogit plan my.yaml --topology v5e:4x4 unlearn.batch_size=64

A slice needs libtpu (pip install 'jax[tpu]') and no TPU. The exit code is 0 where
the run fits or it is not known whether it does, and 2 where it does not fit."""


def run(args: argparse.Namespace) -> Result:
    """Prints the plan."""
    if args.topology is not None:
        # Where libtpu is installed and no TPU is, JAX would look for one for a long time.
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
    use_compilation_cache()
    from unilogit_jax.workflows import plan
    from unilogit_jax.workflows._plan_text import plan_text

    experiment, notes = read(args)
    for note in notes:
        print(f"note: {note}")
    found = plan(experiment, topology=args.topology, compiled=not args.no_compile, say=print)
    print(plan_text(found))
    totals = {stage.name: stage.total for stage in found.stages}
    data = {"fits": found.fits, "bytes": totals, **asdict(found)}
    return Result(data, 2 if found.fits is False else 0)
