# SPDX-License-Identifier: Apache-2.0
"""`unilogit doctor`: versions, machine, devices and disk, ready to paste into a bug report."""

import argparse
import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path

from unilogit_jax import __version__
from unilogit_jax.accelerators import GIB, host_memory
from unilogit_jax.cli._output import Result
from unilogit_jax.run.caches import program_cache
from unilogit_jax.run.environment import PACKAGES, version_of

_SHOWN_TOO = ("pydantic", "rich", "matplotlib")
_SETTINGS = ("JAX_PLATFORMS", "XLA_FLAGS", "JAX_COMPILATION_CACHE_DIR", "CUDA_VISIBLE_DEVICES")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None."""


def run(args: argparse.Namespace) -> Result:
    """Prints what is there; what is missing is said, and is no failure."""
    del args
    found: dict[str, dict[str, str]] = {}
    for part, rows in (("versions", _versions), ("machine", _machine), ("devices", _devices)):
        found[part] = {}
        for name, value in rows():
            print(f"{name:18} {value}")
            found[part][name.strip()] = value
    return Result(found)


def _versions() -> Iterator[tuple[str, str]]:
    yield "unilogit_jax", f"{__version__} ({Path(__file__).parents[1]})"
    yield "python", platform.python_version()
    for name in (*PACKAGES, *_SHOWN_TOO):
        yield name, version_of(name) or "not installed"


def _machine() -> Iterator[tuple[str, str]]:
    yield "platform", platform.platform()
    yield "cpu cores", str(os.cpu_count())
    yield "memory", _memory()
    yield "disk free here", _free(_here())
    folder = program_cache()
    yield "compile cache", f"{folder} ({_free(folder)} free)" if folder else "no home folder"
    for name in _SETTINGS:
        if name in os.environ:
            yield name, os.environ[name]


def _devices() -> Iterator[tuple[str, str]]:
    # Whatever is wrong with an accelerator's set-up is what this report is for.
    try:
        import jax

        devices = jax.devices()
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        yield "devices", f"none usable: {type(error).__name__}: {reason}"
        return
    yield "devices", f"{len(devices)} ({devices[0].platform}), {jax.process_count()} process(es)"
    for device in devices[:16]:
        try:
            limit = (device.memory_stats() or {}).get("bytes_limit")
        except Exception:
            limit = None
        size = f", {limit / GIB:.1f} GiB" if limit else ""
        yield f"  {device.id}", f"{device.device_kind}{size}"


def _memory() -> str:
    memory = host_memory()
    return "unknown" if memory is None else f"{memory / GIB:.1f} GiB"


def _free(folder: Path | None) -> str:
    """Free space at a folder, or where it would be made."""
    for place in (folder, *folder.parents) if folder else ():
        try:
            return f"{shutil.disk_usage(place).free / GIB:.1f} GiB"
        except OSError:
            continue
    return "unknown"


def _here() -> Path | None:
    try:
        return Path.cwd()
    except OSError:
        return None
