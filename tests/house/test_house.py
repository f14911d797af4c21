# SPDX-License-Identifier: Apache-2.0
"""House rules that a machine can check: light imports, file sizes, headers, nothing left behind."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import unilogit_jax
from unilogit_jax.benchmarks import BENCHMARKS

ROOT = Path(unilogit_jax.__file__).parent
SOURCES = sorted(ROOT.rglob("*.py"))


def modules_after(code):
    script = f"{code}\nimport sys; print(*sorted(m.split('.')[0] for m in sys.modules))"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(out.stdout.split())


def test_importing_the_package_loads_no_heavy_library():
    heavy = {
        "jax",
        "numpy",
        "flax",
        "optax",
        "orbax",
        "transformers",
        "datasets",
        "pydantic",
        "scipy",
    }
    assert not modules_after("import unilogit_jax") & heavy


def test_importing_the_losses_loads_nothing_but_jax_jaxtyping_and_numpy():
    theirs = modules_after("import jax, jax.numpy, jaxtyping, numpy")
    ours = modules_after("import unilogit_jax as uj; uj.losses.unilogit")
    assert ours - theirs == {"unilogit_jax"}


def test_the_whole_package_never_imports_torch_or_tensorflow():
    names = [".".join(p.relative_to(ROOT.parent).with_suffix("").parts) for p in SOURCES]
    code = "import " + ", ".join(n for n in names if not n.endswith("__main__"))
    assert not modules_after(code) & {"torch", "tensorflow"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_has_its_header_one_theme_and_no_leftovers(path):
    text = path.read_text()
    lines = text.splitlines()
    assert lines[0] == "# SPDX-License-Identifier: Apache-2.0"
    assert len(lines) <= 300, "long: does it have two themes?"
    if len(lines) > 1:
        assert lines[1].startswith(('"""', 'r"""')), "the second line says what the file is for"
    assert not re.search(r"\bTODO\b|\bFIXME\b|from __future__ import annotations", text)


def test_no_test_changes_a_setting_of_jax_for_those_that_follow():
    tests = Path(__file__).parents[1]
    found = [
        p for p in tests.rglob("*.py") if re.search(r"config\.update\(\s*\"jax_", p.read_text())
    ]
    assert found == [tests / "conftest.py"], "use a context (`with jax.numpy_rank_promotion(...)`)"


def test_every_test_that_the_page_on_reliability_names_is_there():
    root = ROOT.parent
    named = re.findall(r"(tests/\w[\w/]*\.py)::(\w+)", (root / "docs/reliability.md").read_text())
    missing = [name for file, name in named if f"def {name}(" not in (root / file).read_text()]
    assert len(named) > 40 and not missing


def test_every_benchmark_is_in_the_table():
    files = {p.stem for p in (ROOT / "benchmarks").glob("*.py")} - {"__init__", "find", "choices"}
    # A benchmark's words, prompts and names are in files of its name.
    parts = {f"{name}_{part}" for name in BENCHMARKS for part in ("words", "prompts", "names")}
    assert files - parts == set(BENCHMARKS)


def test_every_name_that_the_package_promises_exists():
    for name in dir(unilogit_jax):
        assert getattr(unilogit_jax, name) is not None
