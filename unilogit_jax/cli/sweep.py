# SPDX-License-Identifier: Apache-2.0
"""`unilogit sweep`: many runs of one config, and which to take."""

import argparse

from unilogit_jax.cli._jax import start_jax
from unilogit_jax.cli._output import Result
from unilogit_jax.cli._training import add_config
from unilogit_jax.errors import UnilogitError
from unilogit_jax.paths import to_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """CONFIG, overrides, the grid, the rule, --out, --resume."""
    add_config(parser, optional=True)
    parser.add_argument(
        "--over",
        metavar="KEY=VALUE,VALUE",
        action="append",
        default=[],
        help="values to try of a key; several of these make a grid",
    )
    parser.add_argument(
        "--each",
        metavar="SETTINGS",
        action="append",
        default=[],
        help="settings that go together, in quotes; each of these is combined with the grid",
    )
    parser.add_argument("--seeds", metavar="N,N", help="seeds of every setting, such as 0,1,2")
    parser.add_argument("--utility", metavar="NUMBER", help="what says how much was kept")
    parser.add_argument("--forget", metavar="NUMBER", help="what says how much was forgotten")
    parser.add_argument(
        "--floor",
        metavar="SHARE",
        type=float,
        default=0.95,
        help="least utility, as a share of that before (0.95)",
    )
    parser.add_argument("--out", metavar="DIR", type=to_path, help="this very folder")
    parser.add_argument("--resume", metavar="SWEEP", type=to_path, help="go on with a sweep")
    parser.epilog = """examples:
  unilogit sweep toy --over unlearn.learning_rate=5e-4,1e-3 --seeds 0,1,2
  unilogit sweep toy --each "method.name=npo method.beta=0.5" --each method.name=undial \\
      --over method.retain_weight=1,4 --out sweeps/first"""


def run(args: argparse.Namespace) -> Result:
    """Starts a sweep, or goes on with one.

    Raises:
      UnilogitError: the arguments contradict each other, or a run cannot be made.

    """
    start_jax("unlearn", args)
    from unilogit_jax import workflows

    if args.resume is not None:
        if args.config or args.over or args.each or args.seeds or args.out:
            raise UnilogitError("--resume SWEEP has its own config and runs: drop all else.")
        return Result(workflows.resume_sweep(args.resume))
    if args.config is None:
        raise UnilogitError("name a config, such as toy or my.yaml; 'unilogit ls configs' lists.")
    try:
        seeds = [int(seed) for seed in (args.seeds or "").split(",") if seed]
    except ValueError:
        raise UnilogitError(
            f"--seeds {args.seeds}: whole numbers with commas, such as 0,1,2."
        ) from None
    folder = workflows.sweep(
        args.config,
        *args.overrides,
        over=args.over,
        each=args.each,
        seeds=seeds,
        utility=args.utility,
        forget=args.forget,
        floor=args.floor,
        out=args.out,
    )
    return Result(folder)
