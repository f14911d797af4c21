# SPDX-License-Identifier: Apache-2.0
import time

import pytest

from unilogit_jax.errors import StorageError
from unilogit_jax.paths import to_path
from unilogit_jax.run import journal
from unilogit_jax.run.journal import Journal


@pytest.fixture
def slow(monkeypatch):
    """Nothing is uploaded but by flush."""
    monkeypatch.setattr(journal, "PAUSE", 3600.0)


def test_on_a_disk_every_line_is_there_at_once(tmp_path):
    log = Journal(tmp_path / "new" / "log.txt")
    for line in ("eins\n", "zwölf \udc80\n"):
        log.append(line)
    assert (tmp_path / "new" / "log.txt").read_text() == "eins\nzwölf \\udc80\n"


def test_in_a_bucket_lines_are_there_after_flush_and_behind_those_of_before(gcs, slow):
    gcs.write("log.txt", b"before\n")
    log = Journal(to_path(f"{gcs.url}/log.txt"))
    log.append("one\n")
    log.append("zwölf \udc80\n")
    assert gcs.read("log.txt") == b"before\n"
    log.flush()
    assert gcs.read("log.txt").decode() == "before\none\nzwölf \\udc80\n"
    written = len(gcs.wrote)
    log.flush()
    assert len(gcs.wrote) == written, "nothing new, nothing written"


def test_lines_reach_a_bucket_by_themselves_and_not_one_by_one(gcs, monkeypatch):
    monkeypatch.setattr(journal, "PAUSE", 0.2)
    log = Journal(to_path(f"{gcs.url}/log.txt"))
    for number in range(100):
        log.append(f"{number}\n")
    end = time.monotonic() + 20
    while not gcs.names() and time.monotonic() < end:
        time.sleep(0.02)
    assert gcs.read("log.txt").decode().split() == [str(number) for number in range(100)]
    assert len(gcs.wrote) == 1
    log.append("more\n")
    while not gcs.read("log.txt").endswith(b"more\n"):
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_bucket_that_refuses_is_told_at_flush_and_loses_nothing(gcs, monkeypatch):
    monkeypatch.setattr(journal, "PAUSE", 0.01)
    log = Journal(to_path(f"{gcs.url}/log.txt"))
    log.append("one\n")
    log.flush()
    gcs.refused[gcs.bucket] = 403
    log.append("two\n")
    time.sleep(0.3)
    with pytest.raises(StorageError, match=r"log\.txt cannot be written"):
        log.flush()
    gcs.refused.clear()
    log.append("three\n")
    log.flush()
    assert gcs.read("log.txt") == b"one\ntwo\nthree\n"
