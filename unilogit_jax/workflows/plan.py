# SPDX-License-Identifier: Apache-2.0
"""What a run will need, before it is paid for: memory, arithmetic and traffic of every stage."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from unilogit_jax.accelerators import accelerator_of, host_memory, topology_devices
from unilogit_jax.config import Experiment, method_label
from unilogit_jax.methods import Method
from unilogit_jax.sharding import batch_shardings
from unilogit_jax.train import Trainable
from unilogit_jax.train.program import Memory, Traffic, memory_of, traffic_of
from unilogit_jax.train.reference import blank_references
from unilogit_jax.train.state import abstract_state, place
from unilogit_jax.workflows._advice import memory_advice
from unilogit_jax.workflows._prepare import Prepared
from unilogit_jax.workflows._programs import (
    Program,
    finetune_program,
    reinforce_program,
    unlearn_program,
)
from unilogit_jax.workflows._runs import GOLD, TARGET, UNLEARN
from unilogit_jax.workflows._sketch import sketch, weight_shapes
from unilogit_jax.workflows._targets import check_targets

START = "weights to start from"


@dataclass(frozen=True, kw_only=True)
class StagePlan:
    """One stage. Bytes are those of one device."""

    name: str
    method: str
    updates: int
    shape: tuple[int, int]
    """Rows and positions of a batch."""
    tokens: float
    """Real ones of an update, on average."""
    flops: float
    """Operations of an update, on average; padding and recomputation do not count."""
    held: dict[str, int]
    """Bytes of what lies in memory between updates: weights, optimizer state, and so on."""
    gradients: int
    memory: Memory | None = None
    """The compiler's count; None: not compiled, or it found no room."""
    refusal: str | None = None
    """What the compiler said where it found no room."""
    traffic: tuple[Traffic, ...] = ()
    seconds: float = 0.0
    """Of compiling."""
    advice: str = ""

    @property
    def total(self) -> int:
        """All bytes at once, as far as they are known."""
        if self.memory is None:
            return sum(self.held.values()) + self.gradients
        # What other stages will begin with is no argument of the program.
        return self.memory.total + self.held.get(START, 0)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All stages of a run on some devices."""

    name: str
    model: str
    data: str
    devices: str
    notes: tuple[str, ...]
    limit: int | None
    """Bytes that a device has; None: unknown."""
    peak: float | None
    """Operations per second of all devices together."""
    stages: tuple[StagePlan, ...]

    @property
    def fits(self) -> bool | None:
        """Whether every stage has room; None: not known, since nothing was compiled."""
        known = [self.room(stage) for stage in self.stages]
        return None if None in known else all(known)

    def room(self, stage: StagePlan) -> bool | None:
        """Whether a stage has room; None: not known."""
        if stage.refusal is not None:
            return False
        if stage.memory is None or self.limit is None:
            return None
        return stage.total <= self.limit


def plan(
    experiment: Experiment,
    *,
    topology: str | None = None,
    devices: Sequence[Any] | None = None,
    compiled: bool = True,
    say: Callable[[str], None] = lambda text: None,
) -> Plan:
    """Checks a configuration and its data, and compiles its steps; reads no weights, runs nothing.

    Args:
      experiment: the configuration.
      topology: a TPU slice to compile for, "v5e:4x4" say; None: the devices that are here.
      devices: these devices instead.
      compiled: whether to compile; without, shapes are checked and sizes counted.
      say: told what is being done.

    Raises:
      UnilogitError: what `unlearn` would refuse, or there is no such slice.

    """
    if devices is None:
        devices = jax.devices() if topology is None else topology_devices(topology)
    prepared, notes = sketch(experiment, devices=devices)
    check_targets(prepared)
    accelerator = accelerator_of(devices[0])
    stages = []
    for program in _programs(prepared):
        if compiled:
            say(f"compiling stage {program.name} ...")
        stages.append(plan_stage(prepared, program, compiled=compiled))
    limit = accelerator.memory if accelerator else _share_of_host(len(devices))
    return Plan(
        name=experiment.name,
        model=_describe_model(prepared),
        data=_describe_data(prepared),
        devices=_describe_devices(prepared, accelerator.name if accelerator else "CPU device"),
        notes=tuple(notes),
        limit=limit,
        peak=accelerator.flops * len(devices) if accelerator else None,
        stages=tuple(stages),
    )


def plan_stage(prepared: Prepared, program: Program, *, compiled: bool = True) -> StagePlan:
    """Sizes of one stage, and the compiler's word on it."""
    weights, mesh = program.weights, prepared.mesh
    optimizer = program.optimizer()
    state, shardings = abstract_state(
        weights.trained,
        optimizer,
        axes=weights.axes,
        mesh=mesh,
        ref_head=weights.ref_head,
        trainable=weights.trainable,
        method_state=program.method_state(prepared),
    )
    first = program.batches(0)
    rows, length = first.tokens.shape
    batch = place(first, batch_shardings(first, mesh))
    tokens, flops = program.work(prepared.model.config)
    step = program.step(prepared, shardings)
    found: dict[str, Any] = {}
    lowered = step.lower(state, batch)
    if compiled:
        found = _compile(lowered)
    held = {
        "weights": state.params,
        "frozen weights": weights.frozen,
        "optimizer": state.opt_state,
        "teacher's head": state.ref_head,
        START: None if program.consumes else state.params,
        "batch": batch,
    }
    return StagePlan(
        name=program.name,
        method=method_label(program.method),
        updates=program.updates,
        shape=(rows, length),
        tokens=tokens,
        flops=flops,
        held={name: size for name, tree in held.items() if (size := _bytes(tree))},
        gradients=_gradients(weights.trainable, state.params),
        advice=memory_advice(prepared.experiment, program.section),
        **found,
    )


def _programs(prepared: Prepared) -> Iterator[Program]:
    """The stages that `unlearn` would run."""
    experiment, base = prepared.experiment, prepared.base
    seed = experiment.output.seed
    if base is None:
        base = weight_shapes(prepared.model)
        yield finetune_program(prepared, TARGET, prepared.everything, base, seed=seed)
        if experiment.eval.gold and prepared.retain is not None:
            yield finetune_program(prepared, GOLD, prepared.retain, base, seed=seed + 1)
    methods = [(experiment.method, UNLEARN)]
    methods += [(rival, f"{UNLEARN}-{method_label(rival)}") for rival in experiment.compare]
    for method, name in methods:
        if method.needs.reinforced is not None:
            yield reinforce_program(prepared, name, base)
        yield planned_unlearning(prepared, name, method, base, last=name == methods[-1][1])


def planned_unlearning(
    prepared: Prepared, name: str, method: Method, base: Any, *, last: bool = True
) -> Program:
    """An unlearning stage from weights of which there are shapes only."""
    config = prepared.model.config
    references = blank_references(
        method, prepared.rows(method), width=config.width, dtype=jax.numpy.dtype(config.dtype)
    )
    head = None
    if method.needs.ref_hidden and method.needs.layer is None:
        tokens = jax.ShapeDtypeStruct((1, 8), np.int32)
        head = jax.eval_shape(
            lambda params, tokens: prepared.model.apply({"params": params}, tokens).head,
            base,
            tokens,
        )
    return unlearn_program(
        prepared, name, method, base, references=references, ref_head=head, last=last
    )


def _compile(lowered: Any) -> dict[str, Any]:
    began = time.perf_counter()
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        # "... Ran out of memory in memory space hbm. Used 20.5G of 15.75G hbm. ..."
        said = str(error).partition("RESOURCE_EXHAUSTED: ")[2].splitlines()[0]
        return {"refusal": said[:200], "seconds": time.perf_counter() - began}
    return {
        "memory": memory_of(compiled),
        "traffic": tuple(traffic_of(compiled.as_text())),
        "seconds": time.perf_counter() - began,
    }


def _gradients(trainable: Trainable, params: Any) -> int:
    """Bytes of the gradients on one device: those of the trained entries of every leaf."""
    leaves = jax.tree.leaves(trainable.pick(params, whole=True))
    trained = jax.tree.leaves(jax.eval_shape(trainable.pick, params))
    pairs = zip(leaves, trained, strict=True)
    return sum(_bytes(leaf) * part.size // leaf.size for leaf, part in pairs)


def _bytes(tree: Any) -> int:
    """Bytes of a tree of placed shapes on one device."""
    return sum(
        math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree)
    )


def _share_of_host(devices: int) -> int | None:
    memory = host_memory()
    return None if memory is None else memory // devices


def _describe_model(prepared: Prepared) -> str:
    config, settings = prepared.model.config, prepared.experiment.model
    source = settings.weights or "made from scratch"
    return (
        f"{source}: {config.layers} layers, width {config.width}, vocabulary {config.vocab_size}, "
        f"{prepared.parameters:,} parameters in {config.param_dtype}, computed in {config.dtype}"
    )


def _describe_data(prepared: Prepared) -> str:
    return f"{prepared.task.name}: {prepared.rows_in_words}"


def _describe_devices(prepared: Prepared, kind: str) -> str:
    shape = " x ".join(f"{axis} {size}" for axis, size in prepared.mesh.shape.items())
    return f"{prepared.mesh.size} x {kind}, mesh {shape}"
