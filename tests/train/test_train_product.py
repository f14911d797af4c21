# SPDX-License-Identifier: Apache-2.0
"""The same numbers everywhere: methods x meshes x microbatches x packed or padded rows.

By default a cover in which every pair of choices occurs; `make test-all` takes the whole product.
"""

from itertools import combinations, product

import pytest
from step_gradients import gradients, worst

from unilogit_jax.data import Batches, PackingWish
from unilogit_jax.methods import METHODS

MESHES = {
    "one": {"data": 1, "fsdp": 1, "tensor": 1},
    "fsdp8": {"data": 1, "fsdp": 8, "tensor": 1},
    "fsdp4_tensor2": {"data": 1, "fsdp": 4, "tensor": 2},
    "data2_fsdp2_tensor2": {"data": 2, "fsdp": 2, "tensor": 2},
}
PARTS = (1, 2, 4)
ROWS = (16, 16)
SETTINGS = {"rmu": {"layer": 1, "c": 20.0, "retain_weight": 100.0}}
"""Where the defaults are for another size of model."""
PRODUCT = list(product(sorted(METHODS), MESHES, PARTS, ("padded", "packed")))


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


COVER = cover(PRODUCT)
CASES = [
    pytest.param(
        *case, id="-".join(map(str, case)), marks=[] if case in COVER else pytest.mark.full
    )
    for case in PRODUCT
]


@pytest.fixture(scope="module")
def wanted():
    """Name -> loss and gradients on one device, of a whole batch of padded rows; made once."""
    return {}


@pytest.mark.parametrize(("name", "mesh", "parts", "rows"), CASES)
def test_loss_and_gradients_are_those_of_one_device_and_a_whole_padded_batch(
    rig, wanted, name, mesh, parts, rows
):
    def on(mesh, parts, rows):
        sizes = MESHES[mesh]
        multiple = sizes["data"] * sizes["fsdp"] * parts
        wish = PackingWish(updates=1, length=48, multiple=multiple)
        made = rig(sizes, METHODS[name](**SETTINGS.get(name, {})), rows=ROWS, packing=wish)
        if rows == "padded":
            made.batches = Batches(made.batches.streams)
        return gradients(made, microbatches=parts)

    if name not in wanted:
        wanted[name] = on("one", 1, "padded")
    (numbers_wanted, grads_wanted), (numbers, grads) = wanted[name], on(mesh, parts, rows)
    for key in {"forget_loss", "forget_nll", "retain_nll", "grad_norm"} & set(numbers_wanted):
        assert numbers[key] == pytest.approx(numbers_wanted[key], rel=1e-5), key
    assert worst(grads_wanted, grads) <= 1e-5
