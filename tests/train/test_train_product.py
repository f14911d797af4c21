# SPDX-License-Identifier: Apache-2.0
"""The same numbers everywhere: methods x meshes x microbatches x packed or padded rows.

By default a cover in which every pair of choices occurs, for methods of every kind, and a case of
each other method; `make test-all` takes the whole product.
"""

from itertools import combinations, product

import jax
import pytest
from step_gradients import gradients, worst

from unilogit_jax.data import Batches, PackingWish
from unilogit_jax.methods import METHODS, Unilogit

MIXED = "data2_fsdp2_tensor2"
MESHES = {
    "one": {"data": 1, "fsdp": 1, "tensor": 1},
    "fsdp8": {"data": 1, "fsdp": 8, "tensor": 1},
    "fsdp4_tensor2": {"data": 1, "fsdp": 4, "tensor": 2},
    MIXED: {"data": 2, "fsdp": 2, "tensor": 2},
}
PARTS = (1, 2, 4)
COVERED = ("unilogit", "npo")
"""Methods of both kinds, per token and per answer, of which every pair of choices is tried."""
ONCE = ("dpo", "npo_sam", "pdu", "rmu", "undial", "whp")
"""Those that take another way through the trainer: pairs of answers, three gradients, a state, a
layer, a teacher's head, a teacher's tokens. One case of each is tried; `make test-all` tries all
of all."""
ROWS = (32, 32)
"""Forget and retain rows: every part divides over eight devices, with other answers too."""
PRODUCT = [
    (name, mesh, parts, rows)
    for name, mesh, parts, rows in product(sorted(METHODS), MESHES, PARTS, ("padded", "packed"))
    # Packing may put two answers to a question into different parts, which workflows refuse.
    if parts == 1 or rows == "padded" or not METHODS[name].pairs
]

SETTINGS = {"rmu": {"layer": 1, "c": 20.0, "retain_weight": 100.0}}
"""Where the defaults are for another size of model."""


def cover(cases):
    """Cases in which every pair of choices that occurs in all of them occurs: the greedy ones."""

    def pairs(case):
        return {(i, case[i], j, case[j]) for i, j in combinations(range(len(case)), 2)}

    missing = set().union(*map(pairs, cases))
    chosen = []
    while missing:
        best = max(cases, key=lambda case: len(pairs(case) & missing))
        chosen.append(best)
        missing -= pairs(best)
    return chosen


def once_each(cases):
    """For each method one case, on eight devices and in two parts, packed where it can be."""
    chosen = {}
    for case in cases:
        name, mesh, parts, rows = case
        if mesh == MIXED and parts == 2:
            chosen[name] = case if rows == "packed" else chosen.get(name, case)
    return list(chosen.values())


COVER = cover([case for case in PRODUCT if case[0] in COVERED]) + once_each(
    [case for case in PRODUCT if case[0] in ONCE]
)
CASES = [
    pytest.param(
        *case, id="-".join(map(str, case)), marks=[] if case in COVER else pytest.mark.full
    )
    for case in PRODUCT
]


OPTIONS = {
    "initial-full": Unilogit(alternatives="initial", direction="reverse_full"),
    "select-initial": Unilogit(select=True, tau=0.008, alternatives="initial", direction="forward"),
    "sequence": Unilogit(unit="sequence"),
}
"""Unilogit's ways through the trainer that its default does not take."""


@pytest.fixture(scope="module")
def wanted():
    """Name -> loss and gradients on one device, of a whole batch of padded rows; made once."""
    return {}


@pytest.mark.parametrize(("name", "mesh", "parts", "rows"), CASES)
def test_loss_and_gradients_are_those_of_one_device_and_a_whole_padded_batch(
    rig, wanted, name, mesh, parts, rows
):
    method = METHODS[name](**SETTINGS.get(name, {}))
    if name not in wanted:
        wanted[name] = on(rig, method, "one", 1, "padded")
    same(wanted[name], on(rig, method, mesh, parts, rows))


@pytest.mark.parametrize("name", OPTIONS)
def test_so_they_are_with_the_options_of_unilogit(rig, name):
    method = OPTIONS[name]
    one = on(rig, method, "one", 1, "padded", moved=3.0)
    same(one, on(rig, method, "data2_fsdp2_tensor2", 2, "packed", moved=3.0))


def on(rig, method, mesh, parts, rows, *, moved=None):
    """Loss and gradients; of weights `moved` away from the start model, where losses may be 0."""
    sizes = MESHES[mesh]
    multiple = sizes["data"] * sizes["fsdp"] * parts
    wish = PackingWish(updates=1, length=48, multiple=multiple)
    made = rig(sizes, method, rows=ROWS, packing=wish)
    if rows == "padded":
        made.batches = Batches(made.batches.streams)
    if moved is not None:
        made.params = jax.tree.map(lambda x: x * moved, made.params)
    return gradients(made, microbatches=parts)


def same(one, other):
    (numbers_wanted, grads_wanted), (numbers, grads) = one, other
    looked_at = {"forget_nll", "retain_nll", "alternate_nll"} & set(numbers_wanted)
    for key in ("forget_loss", *looked_at, "grad_norm"):
        assert numbers[key] == pytest.approx(numbers_wanted[key], rel=1e-5), key
    assert worst(grads_wanted, grads) <= 1e-5
