# SPDX-License-Identifier: Apache-2.0
"""`unilogit unlearn`: removes the forget rows from a model."""

import argparse

from unilogit_jax.cli._jax import start_jax
from unilogit_jax.cli._output import Result
from unilogit_jax.cli._training import add_training, is_there, run_training
from unilogit_jax.errors import UnilogitError
from unilogit_jax.paths import to_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """CONFIG, overrides, --out, --resume, --continue, --requests."""
    add_training(parser)
    parser.add_argument(
        "--continue",
        metavar="RUN",
        dest="after",
        type=to_path,
        help="serve a later request, with what this run ended with; takes no CONFIG",
    )
    parser.add_argument(
        "--requests",
        metavar="SPLIT|FILE",
        nargs="+",
        help="forget these one after another, each from where the last ended, and measure after "
        "each; values of data.forget",
    )
    parser.epilog = """examples:
  unilogit unlearn toy
  unilogit unlearn my.yaml method.name=npo unlearn.steps=100
  unilogit unlearn --resume runs/1123-210400-toy
  unilogit unlearn --continue runs/1123-210400-mine data.forget=second.jsonl
  unilogit unlearn muse/news data.dir=DIR --requests sust/forget_1 sust/forget_2"""


def run(args: argparse.Namespace) -> Result:
    """Starts, resumes or continues a run, or a sequence of them.

    Raises:
      UnilogitError: the arguments contradict each other, or the run cannot be made.

    """
    start_jax("unlearn", args)
    from unilogit_jax import workflows
    from unilogit_jax.hosts import agreed

    if args.requests is not None:
        return _run_requests(args)
    if args.after is None:
        return run_training(args, workflows.unlearn)
    # The first override stands where CONFIG would.
    overrides = [word for word in (args.config, *args.overrides) if word is not None]
    if args.resume is not None or any("=" not in word for word in overrides):
        raise UnilogitError("--continue RUN takes key=value and --out: drop CONFIG and --resume.")
    experiment, notes = agreed(lambda: workflows.continued(args.after, *overrides))
    return Result(workflows.unlearn(experiment, out=args.out, notes=notes))


def _run_requests(args: argparse.Namespace) -> Result:
    """Several requests in turn."""
    from unilogit_jax import workflows

    if args.config is None or args.resume is not None or args.after is not None:
        raise UnilogitError(
            "--requests goes with CONFIG, which stands before it, without --resume and --continue: "
            "'unilogit unlearn --resume RUN' knows a folder's requests, and model.weights=RUN "
            "begins where a run ended."
        )
    # Keys may stand anywhere; the option takes all that follows it.
    requests = [word for word in args.requests if "=" not in word or is_there(word)]
    overrides = [*args.overrides, *(word for word in args.requests if word not in requests)]
    overrides += ["output.profile=true"] if args.profile else []
    folder = workflows.unlearn_sequence(args.config, requests, *overrides, out=args.out)
    return Result(folder)
