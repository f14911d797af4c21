# SPDX-License-Identifier: Apache-2.0
"""Kept answers of the start model on bad disks and in buckets: said, made anew, never lost."""

import errno
import os

import numpy as np
import pytest
from reference_rig import FORGETS, Rig, in_memory, same

from unilogit_jax.paths import to_path
from unilogit_jax.train import kept_arrays
from unilogit_jax.types import FORGET


@pytest.fixture
def rig(tmp_path, rows):
    return Rig(tmp_path / "references", rows)


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
