# SPDX-License-Identifier: Apache-2.0
"""One tiny finished run that most tests read, and the settings it was made with."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from unilogit_jax import workflows
from unilogit_jax.config import Experiment, load_config
from unilogit_jax.run import Console, RunFolder

TINY = (
    "model.scratch.width=32",
    "model.scratch.heads=2",
    "model.scratch.layers=1",
    "model.scratch.vocab_size=300",
    "data.max_length=96",
    "finetune.steps=12",
    "finetune.batch_size=16",
    "unlearn.steps=4",
    "unlearn.batch_size=8",
    "unlearn.retain_ratio=1",
    "eval.max_items=6",
    "eval.max_new_tokens=8",
    "eval.batch_size=16",
    "output.checkpoint_every=2",
    "output.log_every=1",
)
"""A model and stages as small as they get; every batch divides over eight devices."""


@pytest.fixture(autouse=True)
def no_compile_cache(monkeypatch):
    """JAX's own variable wins, so that verbs run in this process leave its settings alone."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "unused")


@pytest.fixture(scope="session")
def tiny() -> Callable[..., Experiment]:
    """tiny(*overrides) -> the tiny experiment."""
    return lambda *overrides: load_config("toy", *TINY, *overrides)


@pytest.fixture(scope="session")
def overrides() -> tuple[str, ...]:
    """The same as words of a command line."""
    return TINY


@pytest.fixture(scope="session")
def toy_run(tiny, tmp_path_factory) -> RunFolder:
    """A finished run with gold; tests only read it."""
    out = tmp_path_factory.mktemp("toy") / "run"
    return workflows.unlearn(tiny(), out=out, console=Console(quiet=True))


@pytest.fixture(scope="session")
def hashes() -> Callable[[Path], dict[str, str]]:
    """hashes(folder) -> file -> hash of its contents."""

    def of(folder: Path) -> dict[str, str]:
        files = sorted(p for p in folder.rglob("*") if p.is_file())
        return {
            str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files
        }

    return of
