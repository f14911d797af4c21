# SPDX-License-Identifier: Apache-2.0
"""What the start model said is read back bit for bit while it holds, and never when it does not."""

import errno
import json
import os
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from unilogit_jax.data import unlearning_batches
from unilogit_jax.methods import Needs
from unilogit_jax.paths import to_path
from unilogit_jax.sharding import make_mesh
from unilogit_jax.train import ReferenceCache, fingerprint, kept_arrays, reference_for
from unilogit_jax.types import FORGET, RETAIN, Head, ModelOutput

V, D = 32, 16
BOTH = frozenset({FORGET, RETAIN})
LOG_ODDS = Needs(ref_log_odds=frozenset({FORGET}))
TOP = Needs(ref_log_odds=frozenset({FORGET}), ref_top=3)
HIDDEN = Needs(ref_hidden=BOTH)
FORGETS = Needs(ref_hidden=frozenset({FORGET}))


class Asks:
    """A method that asks for something."""

    def __init__(self, needs):
        self.needs = needs

    def __call__(self, stats, state):
        raise AssertionError("nothing is trained here")


class Model:
    """Embedding and head in two types, and how many batches really went through it."""

    def __init__(self):
        keys = jax.random.split(jax.random.key(0), 2)
        self.params = {
            "embed": jax.random.normal(keys[0], (V, D)),
            "head": jax.random.normal(keys[1], (V, D)).astype(jnp.bfloat16),
        }
        self.calls = 0

    def __call__(self, params, batch):
        def count(x):
            self.calls += 1
            return x

        embedded = params["embed"][batch.tokens]
        hidden = jax.pure_callback(
            count, jax.ShapeDtypeStruct(embedded.shape, jnp.float32), embedded
        )
        return ModelOutput(hidden=hidden.astype(jnp.bfloat16), head=Head(kernel=params["head"]))


def make_mesh_of(devices):
    return make_mesh(fsdp=max(devices // 2, 1), tensor=-1, devices=jax.devices()[:devices])


class Rig:
    """A model, rows, and a folder where its answers are kept."""

    def __init__(self, folder, rows):
        self.model, self.mesh, self.warnings = Model(), make_mesh_of(1), []
        self.rows = {FORGET: rows(9, 10, 0), RETAIN: rows(14, 12, 1)}
        for own in self.rows.values():
            own.tokens[:] %= V
            own.labels[:] = np.where(own.labels < 0, own.labels, own.labels % V)
        self.cache = ReferenceCache(
            folder=folder, model={"width": D}, version="1", warn=self.warnings.append
        )

    def ask(self, needs=HIDDEN, params=None, rows=None, **changes):
        """The references, whether the model was called for them, and what was said."""
        before, self.warnings[:] = self.model.calls, []
        cache = replace(self.cache, **changes) if self.cache else None
        found, head = reference_for(
            Asks(needs),
            self.model,
            params or self.model.params,
            rows or self.rows,
            batch_size=4,
            mesh=self.mesh,
            cache=cache,
        )
        jax.block_until_ready(head)
        return found, self.model.calls - before


@pytest.fixture
def rig(tmp_path, rows):
    return Rig(tmp_path / "references", rows)


def same(a, b):
    assert a.keys() == b.keys()
    for which, arrays in a.items():
        assert arrays.keys() == b[which].keys()
        for name, x in arrays.items():
            assert x.dtype == b[which][name].dtype and x.shape == b[which][name].shape
            assert x.tobytes() == b[which][name].tobytes(), name
    return True


def in_memory(rig, needs=HIDDEN):
    """The references without a cache."""
    cache, rig.cache = rig.cache, None
    found, _ = rig.ask(needs)
    rig.cache = cache
    return found


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


def flip(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))


DAMAGES = {
    "one bit": ("ref_hidden.npy", flip),
    "cut": ("ref_hidden.npy", lambda path: path.write_bytes(path.read_bytes()[:-7])),
    "empty": ("ref_hidden.npy", lambda path: path.write_bytes(b"")),
    "gone": ("ref_hidden.npy", lambda path: path.unlink()),
    "no JSON": ("manifest.json", lambda path: path.write_bytes(path.read_bytes()[:-9])),
    "no manifest": ("manifest.json", lambda path: path.write_text("[1]")),
    "no checksum": (
        "manifest.json",
        lambda path: path.write_text(path.read_text().replace("sha256", "sha")),
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_named_and_never_used(rig, damage):
    wanted = in_memory(rig)
    rig.ask()
    name, harm = DAMAGES[damage]
    path = rig.cache.folder / "retain-hidden" / name
    harm(path)
    found, calls = rig.ask()
    assert calls == 4 and same(found, wanted)
    (said,) = rig.warnings
    named = path if damage != "no checksum" else path.parent / "ref_hidden.npy"
    assert f"{named} is damaged" in said and "\n" not in said
    assert rig.ask()[1] == 0


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


def test_a_folder_that_cannot_be_written_is_a_warning(rig, tmp_path):
    (tmp_path / "file").write_text("")
    wanted = in_memory(rig)
    found, calls = rig.ask(folder=tmp_path / "file" / "references")
    assert calls == 7 and same(found, wanted)
    assert len(rig.warnings) == 2 and "forget-hidden cannot be written" in rig.warnings[0]
    assert "The run goes on" in rig.warnings[0]
    assert all(isinstance(own["ref_hidden"], np.memmap) for own in found.values())


@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_disk_that_fills_up_on_the_way_loses_nothing(rig, monkeypatch, tmp_path, at):
    wanted, fsync, count = in_memory(rig), os.fsync, iter(range(1, 99))

    def full(file):
        if next(count) == at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return fsync(file)

    monkeypatch.setattr(kept_arrays, "PIECE", 1)
    monkeypatch.setattr(kept_arrays.os, "fsync", full)
    found, calls = rig.ask()
    assert calls == 7 and same(found, wanted)
    (said,) = rig.warnings
    assert "forget-hidden cannot be written: [Errno 28] No space left" in said
    assert not isinstance(found[FORGET]["ref_hidden"], np.memmap)
    assert [path.name for path in rig.cache.folder.iterdir()] == ["retain-hidden"]


def test_a_disk_that_is_full_everywhere_leaves_memory(rig, monkeypatch, tmp_path):
    wanted = in_memory(rig)
    monkeypatch.setattr(
        "unilogit_jax.train.reference_cache.tempfile.TemporaryDirectory",
        lambda **options: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left on device")),
    )
    (tmp_path / "file").write_text("")
    found, _ = rig.ask(folder=tmp_path / "file" / "references")
    assert same(found, wanted) and "held in memory" in rig.warnings[1]


def test_what_a_killed_process_left_is_removed(rig):
    left = rig.cache.folder / ".forget-hidden.1.part"
    left.mkdir(parents=True)
    rig.ask(FORGETS)
    assert not left.exists()


def test_answers_in_a_bucket_are_read_back_too(rig, gcs):
    folder = to_path(f"{gcs.url}/run/references")
    wanted = in_memory(rig)
    (made, calls), (read, again) = rig.ask(folder=folder), rig.ask(folder=folder)
    assert (calls, again) == (7, 0) and same(made, wanted) and same(read, wanted)
    names = [name for name in gcs.wrote if "retain-hidden" in name]
    assert names[-1].endswith("manifest.json"), "last"
    gcs.write(names[0], b"no array")
    assert rig.ask(folder=folder)[1] == 4 and "is damaged" in rig.warnings[0]
    gcs.refused[gcs.bucket] = 403
    found, calls = rig.ask(folder=folder)
    assert calls == 7 and same(found, wanted) and "cannot be read" in rig.warnings[0]


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
