# SPDX-License-Identifier: Apache-2.0
"""What a run notes for its report while it goes: data, model, devices, cost, digests of weights."""

from typing import Any

import jax

from unilogit_jax.accelerators import accelerator_of, peak_memory
from unilogit_jax.hosts import by_first
from unilogit_jax.run import Console, RunFolder
from unilogit_jax.run.ledger import rows_digest
from unilogit_jax.run.record import note
from unilogit_jax.train import weights_digest
from unilogit_jax.workflows._prepare import Prepared
from unilogit_jax.workflows._programs import Program


def note_start(run: RunFolder, prepared: Prepared) -> None:
    """Notes what is known before the first update; for the first process only."""
    task, mesh = prepared.task, prepared.mesh
    sides = {"forget": task.forget, "retain": task.retain}
    digests = {
        name: rows_digest((row.question, row.answer) for row in rows)
        for name, rows in sides.items()
    }
    note(run.path, "data", name=task.name, **digests)
    note(run.path, "model", parameters=prepared.parameters)
    device = mesh.devices.flat[0]
    known = accelerator_of(device)
    note(
        run.path,
        "devices",
        kind=known.name if known else device.device_kind,
        count=mesh.size,
        processes=jax.process_count(),
        mesh=dict(mesh.shape),
    )


def note_stage(run: RunFolder, program: Program, prepared: Prepared) -> None:
    """Notes the work of a stage; for the first process only."""
    work = program.work(prepared.model.config)
    facts = {"updates": program.updates, "tokens": work.tokens, "flops": work.flops}
    note(run.path, "stages", **{program.name: facts})


def note_weights(run: RunFolder, column: str, params: Any) -> None:
    """Notes a digest of a model's weights; all processes have to call this."""
    digest = weights_digest(params)
    by_first(lambda: note(run.path, "weights", **{column: digest}))


def note_end(run: RunFolder, prepared: Prepared, console: Console) -> None:
    """Notes peak memory and warnings; for the first process only."""
    note(run.path, "memory", **peak_memory(list(prepared.mesh.local_devices)))
    note(run.path, "end", warnings=console.warnings)
