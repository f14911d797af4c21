# SPDX-License-Identifier: Apache-2.0
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import numpy as np
import pytest

from unilogit_jax.errors import ConfigError, StorageError
from unilogit_jax.paths import Remote, to_path, to_source, upload_folder


def story(root):
    """What can be seen of a folder while things are done in it; `Path` is the oracle."""
    folder, file = root / "runs" / "mine", root / "runs" / "mine" / "a.b.json"
    yield [folder.exists(), file.is_file(), file.exists()]
    if isinstance(folder, Path):
        folder.mkdir(parents=True)
    file.write_bytes("grün\n".encode())
    yield [folder.exists(), folder.is_dir(), folder.is_file(), file.is_file(), file.is_dir()]
    yield (
        [file.read_text(encoding="utf-8"), file.read_bytes(), str(file.relative_to(root))]
        if (isinstance(file, Path))
        else [file.read_text(), file.read_bytes(), str(file).removeprefix(f"{root}/")]
    )
    yield [file.name, file.stem, file.suffix, file.parent == folder, file.parent.parent.name]
    file.write_bytes(b"new")
    (folder / "z").write_bytes(b"")
    yield [file.read_bytes(), sorted(path.name for path in folder.iterdir())]
    yield [[path.name for path in folder.parent.iterdir()], (root / "run").exists()]
    file.unlink()
    file.unlink(missing_ok=True)
    for missing in (file.unlink, file.read_bytes):
        with pytest.raises(FileNotFoundError):
            missing()
    yield [file.exists(), [path.name for path in folder.iterdir()]]


def test_a_folder_of_a_bucket_behaves_as_one_of_a_disk(gcs, tmp_path):
    assert list(story(to_path(gcs.url))) == list(story(tmp_path))


def test_what_others_write_and_delete_is_seen_at_once(gcs):
    folder = to_path(f"{gcs.url}/x")
    assert not list(folder.iterdir())
    gcs.write("x/a", b"1")
    assert [path.name for path in folder.iterdir()] == ["a"] and folder.is_dir()
    gcs.buckets[gcs.bucket].clear()
    assert not list(folder.iterdir()) and not folder.exists()


def test_an_object_that_marks_its_folder_is_not_in_it(gcs):
    gcs.write("x/", b"")
    assert not list(to_path(f"{gcs.url}/x").iterdir())


def test_of_many_who_create_an_object_one_succeeds(gcs):
    place = to_path(f"{gcs.url}/status")

    def create(number):
        try:
            place.create(b"%d" % number)
        except FileExistsError:
            return None
        return number

    with ThreadPoolExecutor(8) as pool:
        (winner,) = [n for n in pool.map(create, range(16)) if n is not None]
    assert place.read_bytes() == b"%d" % winner


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")  # of gcsfs
@pytest.mark.parametrize("size", [0, 1000, 6 * 2**20])
def test_files_are_uploaded_byte_for_byte(gcs, tmp_path, size):
    data = np.random.default_rng(0).bytes(size)
    (tmp_path / "file").write_bytes(data)
    place = to_path(f"{gcs.url}/file")
    place.upload(tmp_path / "file")
    assert gcs.read("file") == place.read_bytes() == data


def test_a_folder_is_uploaded_with_the_named_files_last(gcs, tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("a", "config.json", "sub/x", "z"):
        (tmp_path / name).write_text(name)
    upload_folder(tmp_path, to_path(f"{gcs.url}/m"), last=("config.json",))
    assert gcs.wrote == ["m/a", "m/sub/x", "m/z", "m/config.json"]
    assert gcs.read("m/sub/x") == b"sub/x"


def test_an_upload_that_fails_leaves_nothing(gcs, tmp_path, monkeypatch):
    for name in "abc":
        (tmp_path / name).write_text(name)
    upload = Remote.upload
    broken = StorageError("full")

    def fail_at_c(self, file):
        if file.name == "c":
            raise broken
        upload(self, file)

    monkeypatch.setattr(Remote, "upload", fail_at_c)
    with pytest.raises(StorageError, match="full"):
        upload_folder(tmp_path, to_path(gcs.url))
    assert gcs.wrote == ["a", "b"] and not gcs.names()


def test_a_place_can_be_tried_and_nothing_is_left(gcs):
    with to_path(f"{gcs.url}/x").marked() as marker:
        assert gcs.names() == [f"x/{marker.name}"]
    assert not gcs.names()


@pytest.mark.parametrize("act", ["write_bytes", "create"])
def test_a_bucket_that_is_not_there_is_one_sentence(gcs, act):
    with pytest.raises(StorageError, match="no bucket gs://none, or you have no access") as caught:
        getattr(to_path("gs://none/x/status"), act)(b"")
    assert "\n" not in str(caught.value)
    assert not to_path("gs://none/x").exists() and not list(to_path("gs://none/x").iterdir())


@pytest.mark.parametrize("code", [401, 403])
@pytest.mark.parametrize("act", ["read_bytes", "exists", "unlink", "iterdir", "write_bytes"])
def test_a_refusal_is_one_sentence_and_never_reads_as_nothing_there(gcs, code, act, capfd):
    gcs.refused[gcs.bucket] = code
    place = to_path(f"{gcs.url}/x")
    with pytest.raises(StorageError, match=rf"{place} cannot be \w+ \(.*the stand-in") as caught:
        list(getattr(place, act)(*[b""] * (act == "write_bytes")))
    assert isinstance(caught.value, OSError) and caught.value.strerror
    assert "\n" not in str(caught.value) and not capfd.readouterr().err


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("gss://b/x", r"not at gss://\. Did you mean 'gs'\?$"),
        ("nosuch://b/x", r"nosuch://b/x cannot be used: .* on a disk or at gs://.*nosuch://\.$"),
        ("s3://b/x", r"not at s3://\.$"),
        (Path("gs://b/x"), "gs:/b/x was a URL before it became a Path: give it as text"),
    ],
)
def test_places_that_cannot_be_written_are_refused(place, message):
    with pytest.raises(ConfigError, match=message):
        to_path(place)


def test_paths_stay_paths_and_urls_are_made_alike():
    assert to_path("a/b") == to_path(Path("a/b")) == Path("a/b")
    assert to_path("file:///a/b") == Path("/a/b")
    assert to_path("gcs://b/x/") == to_path("gs://b/x") == to_path(Remote("gs://b/x"))
    assert to_source("s3://b/x") == Remote("s3://b/x")
    assert Remote("gs://b").parent == Remote("gs://b")


def test_a_store_whose_package_is_missing_names_it(monkeypatch):
    def url_to_fs(url, **options):
        raise ImportError("Please install gcsfs to access Google Storage")

    monkeypatch.setattr(fsspec.core, "url_to_fs", url_to_fs)
    with pytest.raises(StorageError, match=r"gcsfs .*; pip install gcsfs\.$"):
        Remote("gs://b/x").exists()
