# SPDX-License-Identifier: Apache-2.0
"""A plan as text for people."""

from unilogit_jax.accelerators import GIB
from unilogit_jax.workflows.plan import Plan, StagePlan

UTILISATION = 0.4
"""Share of the peak that the estimate of the time assumes."""


def plan_text(plan: Plan) -> str:
    """Everything that a plan found, and what to change where it does not fit."""
    each = f", {plan.limit / GIB:.2f} GiB each" if plan.limit else ""
    lines = [
        f"model    {plan.model}",
        f"data     {plan.data}",
        f"devices  {plan.devices}{each}",
        *(f"note     {note}" for note in plan.notes),
    ]
    for stage in plan.stages:
        lines += ["", *_stage_lines(plan, stage)]
    return "\n".join([*lines, "", _verdict(plan)])


def _stage_lines(plan: Plan, stage: StagePlan) -> list[str]:
    rows, length = stage.shape
    lines = [
        f"stage {stage.name}: {stage.method}, {stage.updates} updates of {rows} x {length} tokens, "
        f"{stage.tokens:,.0f} of them real",
        "  on each device",
        *(_line(name, size) for name, size in stage.held.items()),
    ]
    memory = stage.memory
    if memory is None:
        lines.append(_line("gradients", stage.gradients))
        said = stage.refusal or "activations and temporaries are not counted: nothing was compiled"
        lines.append(f"  {said}")
    else:
        rest = stage.total - sum(stage.held.values()) - memory.temporaries
        lines += [
            _line("temporaries", memory.temporaries)
            + f"   gradients {_size(stage.gradients)}, the rest activations and buffers",
            _line("program and results", max(0, rest)),
            _line("in all", stage.total),
        ]
    lines.append(f"  arithmetic  {stage.flops:.2e} operations an update{_time(plan, stage)}")
    if stage.traffic:
        moved = ", ".join(f"{t.kind} {_size(t.bytes)} in {t.times}" for t in stage.traffic)
        lines.append(f"  exchanged   {moved}, per device and update")
    if stage.seconds:
        lines.append(f"  compiled in {stage.seconds:.0f} s")
    return lines


def _line(name: str, size: int) -> str:
    return f"  {name:22} {_size(size):>10}"


def _size(size: float) -> str:
    """Bytes in a unit in which they are easy to read.

    Example:
      >>> _size(3 * 2**30), _size(0.2 * 2**30), _size(900)
      ('3.00 GiB', '204.8 MiB', '0.9 KiB')

    """
    if size >= GIB / 2:
        return f"{size / GIB:.2f} GiB"
    return f"{size / 2**20:.1f} MiB" if size >= 2**19 else f"{size / 2**10:.1f} KiB"


def _time(plan: Plan, stage: StagePlan) -> str:
    if not plan.peak:
        return ""
    seconds = stage.flops / plan.peak / UTILISATION
    whole = seconds * stage.updates / 60
    return f"; at {UTILISATION:.0%} of the peak {seconds:.2f} s, {whole:.1f} minutes in all"


def _verdict(plan: Plan) -> str:
    tight = [stage for stage in plan.stages if plan.room(stage) is False]
    if not tight:
        return {True: "It fits.", None: "Whether it fits is not known.", False: ""}[plan.fits]
    names = " and ".join(stage.name for stage in tight)
    return "\n".join([f"It does not fit: stage {names}.", *{stage.advice: 0 for stage in tight}])
