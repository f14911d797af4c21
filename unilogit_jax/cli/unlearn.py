# SPDX-License-Identifier: Apache-2.0
"""`unilogit unlearn`: removes the forget rows from a model."""

import argparse

from unilogit_jax.cli._jax import start_jax
from unilogit_jax.cli._training import add_training, run_training
from unilogit_jax.errors import UnilogitError
from unilogit_jax.paths import to_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """CONFIG, overrides, --out, --resume, --continue."""
    add_training(parser)
    parser.add_argument(
        "--continue",
        metavar="RUN",
        dest="after",
        type=to_path,
        help="serve a later request, with what this run ended with; takes no CONFIG",
    )
    parser.epilog = """examples:
  unilogit unlearn toy
  unilogit unlearn my.yaml method.name=npo unlearn.steps=100
  unilogit unlearn --resume runs/1123-210400-toy
  unilogit unlearn --continue runs/1123-210400-mine data.forget=second.jsonl"""


def run(args: argparse.Namespace) -> int:
    """Starts, resumes or continues a run.

    Raises:
      UnilogitError: the arguments contradict each other, or the run cannot be made.

    """
    start_jax("unlearn", args)
    from unilogit_jax import workflows
    from unilogit_jax.hosts import agreed

    if args.after is None:
        return run_training(args, workflows.unlearn)
    # The first override stands where CONFIG would.
    overrides = [word for word in (args.config, *args.overrides) if word is not None]
    if args.resume is not None or any("=" not in word for word in overrides):
        raise UnilogitError("--continue RUN takes key=value and --out: drop CONFIG and --resume.")
    experiment, notes = agreed(lambda: workflows.continued(args.after, *overrides))
    workflows.unlearn(experiment, out=args.out, notes=notes)
    return 0
