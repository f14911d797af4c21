# SPDX-License-Identifier: Apache-2.0
"""What the start model said is read back bit for bit while it holds, and never when it does not."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from reference_rig import FORGETS, HIDDEN, D, Rig, V, in_memory, make_mesh_of, same

from unilogit_jax.data import unlearning_batches
from unilogit_jax.methods import Needs
from unilogit_jax.train import fingerprint
from unilogit_jax.types import FORGET, RETAIN

LOG_ODDS = Needs(ref_log_odds=frozenset({FORGET}))
TOP = Needs(ref_log_odds=frozenset({FORGET}), ref_top=3)


@pytest.fixture
def rig(tmp_path, rows):
    return Rig(tmp_path / "references", rows)


@pytest.mark.parametrize("needs", [LOG_ODDS, TOP, HIDDEN], ids=["log odds", "top", "hidden"])
def test_what_was_asked_before_is_mapped_from_files_and_the_model_not_called(rig, needs):
    wanted = in_memory(rig, needs)
    (made, calls), (read, again) = rig.ask(needs), rig.ask(needs)
    assert calls == 3 + 4 * (needs is HIDDEN) and again == 0 and not rig.warnings
    assert same(made, wanted) and same(read, wanted)
    for found in (made, read):
        for arrays in found.values():
            assert all(isinstance(x, np.memmap) for x in arrays.values())


def test_methods_share_what_is_equal_and_keep_apart_what_is_not(rig):
    first, _ = rig.ask(LOG_ODDS)
    assert rig.ask(TOP)[1] == 3, "other arrays of the same rows"
    both = Needs(ref_log_odds=frozenset({FORGET}), ref_hidden=frozenset({RETAIN}))
    assert rig.ask(both)[1] == 4, "the retain rows alone"
    assert rig.ask(LOG_ODDS, source="elsewhere")[1] == 3, "another model's"
    again, calls = rig.ask(LOG_ODDS)
    assert calls == 0 and same(first, again)
    names = {path.name for path in rig.cache.folder.iterdir()}
    tau = {name for name in names if name.startswith("tau-")}
    assert len(tau) == 1
    assert names - tau == {"forget-log_odds", "forget-log_odds-top3", "retain-hidden"}


def change_weight(leaf, place, rig):
    leaf = rig.model.params[leaf]
    # The smallest step there is.
    bits = jax.lax.bitcast_convert_type(leaf, jnp.uint16 if leaf.itemsize == 2 else jnp.uint32)
    return jax.lax.bitcast_convert_type(bits.at[place].add(1), leaf.dtype)


@pytest.mark.parametrize("leaf", ["embed", "head"], ids=["float32", "bfloat16"])
def test_one_element_of_one_weight_makes_other_answers(rig, leaf):
    rig.ask(FORGETS)
    params = rig.model.params | {leaf: change_weight(leaf, (V - 1, 3), rig)}
    assert rig.ask(FORGETS, params)[1] == 3
    (said,) = rig.warnings
    assert "forget-hidden was made with other weights: " in said and "computed anew" in said
    assert rig.ask(FORGETS, params)[1] == 0, "and what replaces it is kept"
    assert len(list(rig.cache.folder.iterdir())) == 1


def other_rows(rig, field, place):
    own = rig.rows[FORGET]
    changed = getattr(own, field).copy()
    changed[place] = 5 if changed[place] != 5 else 6
    return rig.rows | {FORGET: replace(own, **{field: changed})}


@pytest.mark.parametrize("field, place", [("tokens", (8, 1)), ("labels", (8, 0)), ("lengths", 8)])
def test_one_number_of_one_row_makes_other_answers(rig, field, place):
    rig.ask(FORGETS)
    assert rig.ask(FORGETS, rows=other_rows(rig, field, place))[1] == 3
    assert "made with other rows" in rig.warnings[0]


def test_another_mask_makes_other_answers(rig):
    rig.ask(FORGETS)
    hidden = {which: replace(own, unseen=3) for which, own in rig.rows.items()}
    assert rig.ask(FORGETS, rows=hidden)[1] == 3
    assert rig.ask(FORGETS, rows=hidden)[1] == 0


def test_another_configuration_or_version_makes_other_answers(rig):
    rig.ask(FORGETS)
    assert rig.ask(FORGETS, model={"width": D, "dtype": "bfloat16"})[1] == 3
    assert "made with other configuration" in rig.warnings[0]
    assert rig.ask(FORGETS, version="2")[1] == 3
    assert "made with other configuration and version" in rig.warnings[0]


@pytest.mark.parametrize("devices", [2, 8])
def test_the_mesh_does_not_matter(rig, devices):
    wanted, _ = rig.ask()
    rig.mesh = make_mesh_of(devices)
    where = NamedSharding(rig.mesh, PartitionSpec("tensor", "fsdp"))
    found, calls = rig.ask(params=jax.device_put(rig.model.params, where))
    assert calls == 0 and same(found, wanted) and not rig.warnings


def test_layers_or_rows_that_change_places_are_seen_in_weights_born_in_bfloat16(rng):
    x = jnp.asarray(rng.standard_normal((4, 256, 512)), jnp.bfloat16).astype(jnp.float32)
    marks = {int(fingerprint(v)) for v in (x, x[::-1], x[:, ::-1], x[jnp.array([1, 0, 2, 3])])}
    assert len(marks) == 4


def test_batches_take_mapped_arrays_as_they_are(rig):
    plain, (mapped, _) = in_memory(rig), rig.ask()
    batches = [
        unlearning_batches(
            rig.rows[FORGET],
            rig.rows[RETAIN],
            batch_size=3,
            retain_size=4,
            seed=0,
            references=found,
        )
        for found in (plain, mapped)
    ]
    given = [stream.references["ref_hidden"] for stream in batches[1].streams]
    assert all(isinstance(x, np.memmap) for x in given)
    for i in range(3):
        jax.tree.map(np.testing.assert_array_equal, *(made(i) for made in batches))
        assert not isinstance(batches[1](i).ref_hidden, np.memmap), "rows were read, not kept open"


def test_the_manifest_says_what_the_files_are(rig):
    rig.ask()
    place = rig.cache.folder / "forget-hidden"
    manifest = json.loads((place / "manifest.json").read_text())
    assert manifest["made_of"].keys() == {"weights", "rows", "configuration", "version"}
    entry = manifest["arrays"]["ref_hidden"]
    assert entry["shape"] == [9, 10, D] and entry["dtype"] == "bfloat16"
    read = np.load(place / "ref_hidden.npy")
    assert read.shape == (9, 10, D), "anybody's NumPy reads them"
