# SPDX-License-Identifier: Apache-2.0
"""What can be refused of a configuration as soon as the mesh is known."""

from jax.sharding import Mesh

from unilogit_jax.config import Experiment
from unilogit_jax.errors import ConfigError


def check_rows(experiment: Experiment, mesh: Mesh) -> None:
    """Refuses batches that the mesh cannot divide: every device would get a copy of them."""
    parts = mesh.shape["data"] * mesh.shape["fsdp"]
    unlearn, finetune = experiment.unlearn, experiment.finetune
    all_rows = unlearn.batch_size + unlearn.retain_size
    rows = {"eval.batch_size": (experiment.eval.batch_size, 1)}
    # Packed rows are made to fit.
    if unlearn.packing is None:
        name = "unlearn.batch_size * (1 + unlearn.retain_ratio)"
        rows[name] = (all_rows, unlearn.microbatches)
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
