# SPDX-License-Identifier: Apache-2.0
"""JAX at the start of a command: the cache of compiled programs, and the other hosts of a run."""

import argparse
import os


def start_jax(verb: str, args: argparse.Namespace) -> None:
    """What verbs that train or measure do first: they may be one process of several.

    Args:
      verb: what was asked for.
      args: with which arguments; all processes have to agree on both.

    Raises:
      ConfigError: the environment speaks of other processes, which are not found or were asked for
        something else.

    """
    use_compilation_cache()
    from unilogit_jax.hosts import check_same, start_hosts

    start_hosts()
    check_same("arguments", repr((verb, sorted(vars(args).items()))).encode())


def use_compilation_cache() -> None:
    """Lets the next start skip compiling; goes on without where the folder cannot be made.

    A folder chosen through JAX's own environment variable stays.
    """
    import jax

    from unilogit_jax.run.caches import program_cache

    folder = program_cache()
    if folder is None or "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    if os.access(folder, os.W_OK):
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
