# SPDX-License-Identifier: Apache-2.0
"""What can be refused before anything is computed: batches, and places for results."""

import os
from pathlib import Path

from jax.sharding import Mesh

from unilogit_jax.config import Experiment, method_label
from unilogit_jax.errors import ConfigError
from unilogit_jax.hosts import by_first
from unilogit_jax.paths import AnyPath


def check_rows(experiment: Experiment, mesh: Mesh) -> None:
    """Refuses batches that the mesh or the method cannot divide.

    A mesh would hold a copy of them on every device; a method that joins two answers to a question
    needs both in one part.

    Raises:
      ConfigError: what to change.

    """
    _check_pairs(experiment)
    parts = mesh.shape["data"] * mesh.shape["fsdp"]
    unlearn, finetune = experiment.unlearn, experiment.finetune
    rows = {"eval.batch_size": (experiment.eval.batch_size, 1)}
    # Packed rows are made to fit.
    if unlearn.packing is None:
        for method in experiment.methods:
            name = "unlearn.batch_size * (1 + unlearn.retain_ratio)"
            if method.needs.alternates:
                label = method_label(method)
                name = f"the rows of an update of method {label}, other answers included,"
            rows[name] = (unlearn.rows(method), unlearn.microbatches)
    if finetune.packing is None:
        rows["finetune.batch_size"] = (finetune.batch_size, finetune.microbatches)
    bad = [
        f"{name} = {n}" + (f" in {k} microbatches" if k > 1 else "")
        for name, (n, k) in rows.items()
        if n % (parts * k)
    ]
    if bad:
        raise ConfigError(
            f"mesh: data x fsdp = {parts} devices share the rows of a batch, which does not divide "
            f"{'; '.join(bad)}. Change the batch size or the mesh."
        )


def check_out(out: AnyPath, *, folder: bool) -> None:
    """Refuses a place on a disk where results cannot be written, before they are computed.

    Args:
      out: the place.
      folder: whether it is a folder for several files, or the file itself.

    Raises:
      ConfigError: it is something else, or the folder that it would be made in takes no files.

    """
    by_first(lambda: _check_out(out, folder))


def _check_out(out: AnyPath, folder: bool) -> None:
    if not isinstance(out, Path):
        return
    if out.exists() and out.is_dir() != folder:
        found, wanted = ("a file", "a folder") if folder else ("a folder", "a file")
        raise ConfigError(f"{out} is {found}: name {wanted} with --out.")
    inside = out.absolute() if folder else out.absolute().parent
    near = next(place for place in (inside, *inside.parents) if place.exists())
    if not (near.is_dir() and os.access(near, os.W_OK | os.X_OK)):
        why = "takes no files from you" if near.is_dir() else "is no folder"
        raise ConfigError(f"{out} cannot be written: {near} {why}. Name another place with --out.")


def _check_pairs(experiment: Experiment) -> None:
    """The parts of a batch are rows `microbatches` apart; packed rows are anywhere."""
    training = experiment.unlearn
    parts = training.microbatches
    pairing = [method_label(m) for m in experiment.methods if getattr(m, "pairs", False)]
    together = not (training.batch_size % parts or training.retain_size % parts)
    if parts > 1 and pairing and not (together and training.packing is None):
        raise ConfigError(
            f"unlearn.microbatches {parts}: method {pairing[0]} joins two answers to a question, "
            "which come to lie in one part only if rows are not packed and the number of parts "
            f"divides the {training.batch_size} forget and the {training.retain_size} retain rows "
            "of an update; set unlearn.packing=null and suitable sizes, or unlearn.microbatches=1."
        )
