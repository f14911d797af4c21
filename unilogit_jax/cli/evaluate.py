# SPDX-License-Identifier: Apache-2.0
"""`unilogit evaluate`: measures the models of a run again, or any model on a benchmark."""

import argparse
import json

from unilogit_jax.cli._jax import start_jax
from unilogit_jax.cli._output import Result
from unilogit_jax.cli._whp import add_whp
from unilogit_jax.errors import ConfigError
from unilogit_jax.paths import to_path

_KEYS = {
    "benchmark": ("data.benchmark", "NAME", "measure on this benchmark: 'unilogit ls benchmarks'"),
    "split": ("data.forget", "SPLIT", "of the benchmark, such as forget10"),
    "data": ("data.dir", "DIR", "folder of the benchmark's files"),
    "reference": (
        "eval.reference",
        "LOG|RUN",
        "log or run of a model that never saw the forget rows, for forget quality and privleak",
    ),
}
"""Option -> key that it sets, what it takes, help."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """SOURCE, key=value, --whp, --out, and short forms of the usual keys."""
    parser.add_argument("source", metavar="RUN|FOLDER|HUB_ID", help="a run, or weights")
    parser.add_argument(
        "overrides", metavar="key=value", nargs="*", help="set a key, such as eval.max_items=50"
    )
    for option, (_, value, text) in _KEYS.items():
        parser.add_argument(f"--{option}", metavar=value, help=text)
    add_whp(parser)
    parser.add_argument(
        "--lm-eval",
        metavar="TASKS",
        help="tasks of lm-evaluation-harness instead, with commas: mmlu,wmdp_bio",
    )
    parser.add_argument("--lm-eval-dir", metavar="DIR", help="folder of your own such tasks, YAML")
    parser.add_argument("--fewshot", metavar="N", type=int, help="with --lm-eval: examples shown")
    parser.add_argument("--limit", metavar="N", type=int, help="with --lm-eval: items per task")
    parser.add_argument("--chat", action="store_true", help="with --lm-eval: the chat template")
    parser.add_argument("--out", metavar="DIR", type=to_path, help="where to write items and logs")


def run(args: argparse.Namespace) -> Result:
    """Evaluates and prints the table."""
    start_jax("evaluate", args)
    from unilogit_jax import workflows

    if args.lm_eval is not None:
        _refuse_others(args)
        scores = workflows.evaluate_tasks(
            args.source,
            args.lm_eval.split(","),
            whp=args.whp,
            alpha=args.alpha,
            include=args.lm_eval_dir,
            fewshot=args.fewshot,
            limit=args.limit,
            chat=args.chat,
            out=args.out,
        )
        return Result(scores)
    short = [
        f"{key}={json.dumps(value)}"
        for option, (key, _, _) in _KEYS.items()
        if (value := getattr(args, option)) is not None
    ]
    numbers = workflows.evaluate(
        args.source, *short, *args.overrides, whp=args.whp, alpha=args.alpha, out=args.out
    )
    return Result(numbers)


def _refuse_others(args: argparse.Namespace) -> None:
    """A benchmark and the harness's tasks are measured one at a time."""
    given = [f"--{option}" for option in _KEYS if getattr(args, option) is not None]
    if given or args.overrides:
        words = ", ".join(given + args.overrides)
        raise ConfigError(f"--lm-eval measures the harness's tasks alone: drop {words}.")
