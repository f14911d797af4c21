# SPDX-License-Identifier: Apache-2.0
import json
import os
from pathlib import Path
from types import SimpleNamespace

import fsspec
import huggingface_hub
import jax
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import known_implementations
from huggingface_hub import errors

from unilogit_jax import models
from unilogit_jax.errors import WeightsError
from unilogit_jax.models.remote import resolve
from unilogit_jax.sharding import make_mesh


class Counted(MemoryFileSystem):
    """A server of ranges that notes what it is asked for."""

    protocol = "counted"
    asked: list = []  # noqa: RUF012
    store: dict = {}  # noqa: RUF012
    pseudo_dirs = [""]  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path):
        return MemoryFileSystem._strip_protocol(path.replace("counted://", "memory://"))

    def cat_file(self, path, start=None, end=None, **kwargs):
        self.asked.append((path.rpartition("/")[2], start, end))
        return self.answer(super().cat_file(path, start, end, **kwargs), path)

    def answer(self, data, path):
        return data


@pytest.fixture(scope="module")
def folder(tiny, tmp_path_factory):
    path = tmp_path_factory.mktemp("remote") / "model"
    models.save(path, *tiny, file_bytes=30_000)
    return path


@pytest.fixture
def url(folder, monkeypatch):
    """The folder behind a URL."""
    fsspec.register_implementation("counted", Counted, clobber=True)
    monkeypatch.setattr(Counted, "store", {})
    monkeypatch.setattr(Counted, "asked", [])
    for path in folder.iterdir():
        fsspec.filesystem("counted").pipe_file(f"bucket/model/{path.name}", path.read_bytes())
    return "counted://bucket/model"


def same(a, b):
    assert a.dtype == b.dtype
    np.testing.assert_array_equal(a, b)


def test_a_memory_url_loads_like_the_folder(tiny, folder):
    memory = fsspec.filesystem("memory")
    for path in folder.iterdir():
        memory.pipe_file(f"/loaded/{path.name}", path.read_bytes())
    model, params = models.load("memory://loaded/")
    assert model.config == tiny[0].config
    jax.tree.map(same, tiny[1], params)


@pytest.mark.parametrize("mesh", [None, {"fsdp": 4, "tensor": 2}])
def test_only_ranges_are_fetched_and_every_byte_once(tiny, folder, url, mesh):
    _, params = models.load(url, mesh=None if mesh is None else make_mesh(**mesh))
    jax.tree.map(same, tiny[1], params)
    fetched = {}
    for file, start, end in Counted.asked:
        if file.endswith(".safetensors"):
            fetched.setdefault(file, []).append((start, end))
    assert fetched.keys() == {path.name for path in folder.glob("*.safetensors")}
    for file, ranges in fetched.items():
        place = 0
        for start, end in sorted(ranges):  # length, header and every tensor, one after the other
            assert start == place
            place = end
        assert place == (folder / file).stat().st_size
        assert len(ranges) > 3


def test_reading_a_configuration_fetches_nothing_else(tiny, url):
    assert models.read_decoder_config(url) == tiny[0].config
    assert {file for file, _, _ in Counted.asked} == {"config.json"}


def spoil(url, name, data):
    system = fsspec.filesystem("counted")
    path = f"bucket/model/{name}"
    system.rm_file(path)
    if data is not None:
        system.pipe_file(path, data(system.cat_file(path)) if callable(data) else data)


INDEX = "model.safetensors.index.json"


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("config.json", None, r"counted://bucket/model has no config\.json"),
        ("config.json", b"{", r"model/config\.json cannot be read as JSON"),
        (INDEX, None, r"counted://bucket/model has no model\.safetensors and no"),
        (INDEX, b'{"weight_map": {"a": "../b"}}', "points outside .* or at no file: '../b'"),
        ("model-00002-of-00004.safetensors", None, "00002-of-00004.safetensors is missing: the up"),
        ("model-00002-of-00004.safetensors", b"", "00002-of-00004.safetensors is damaged or cut"),
        ("model-00002-of-00004.safetensors", bytes(99), "is damaged or cut short"),
    ],
)
def test_damaged_remote_folders_are_refused(url, name, data, message):
    spoil(url, name, data)
    with pytest.raises(WeightsError, match=message):
        models.load(url)


def test_a_remote_folder_of_pickles_is_refused(url):
    spoil(url, INDEX, None)
    fsspec.filesystem("counted").pipe_file("bucket/model/pytorch_model.bin", b"x")
    with pytest.raises(WeightsError, match=r"has only pickle files \(pytorch_model\.bin\)"):
        models.load(url)


def test_a_remote_folder_in_place_of_a_file_is_refused(url):
    spoil(url, "config.json", None)
    fsspec.filesystem("counted").pipe_file("bucket/model/config.json/x", b"x")
    with pytest.raises(WeightsError, match=r"config\.json is a folder"):
        models.load(url)


def test_a_server_that_does_not_know_ranges_is_told_of(url, monkeypatch):
    whole = MemoryFileSystem.cat_file
    monkeypatch.setattr(Counted, "answer", lambda self, data, path: whole(self, path))
    with pytest.raises(
        WeightsError, match=r"safetensors gave \d+ bytes when asked for 8: .*ranges"
    ):
        models.load(url)


@pytest.mark.parametrize("error", [PermissionError("Forbidden"), RuntimeError("no\n  credentials")])
def test_a_refusal_of_the_file_system_is_one_sentence(url, monkeypatch, error):
    def refuse(self, data, path):
        raise error

    monkeypatch.setattr(Counted, "answer", refuse)
    message = (
        rf"config.json cannot be read \({type(error).__name__}: (Forbidden|no credentials)\): "
    )
    with pytest.raises(WeightsError, match=message):
        models.load(url)


def test_a_file_system_that_is_not_installed_names_its_package(monkeypatch):
    entry = {"class": "no_such_package.System", "err": "Please install no_such_package"}
    monkeypatch.setitem(known_implementations, "nosuch", entry)
    with pytest.raises(
        WeightsError, match=r"nosuch://b/m cannot be read: Please install no_such_p"
    ):
        models.load("nosuch://b/m")


def test_an_unknown_kind_of_url_gets_a_suggestion():
    with pytest.raises(WeightsError, match=r"Protocol not known: memroy.*Did you mean 'memory'\?"):
        models.load("memroy://b/m")


def test_a_file_url_and_a_home_are_local_folders(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    assert resolve(f"file://{folder}") == resolve("~/model") == resolve(folder) == folder


@pytest.mark.parametrize(
    "source", ["/no/such", "./org/name", "../name", "~/no", "a/b/c", "name", "org/", "a b/c"]
)
def test_what_is_no_id_is_a_folder_that_does_not_exist(source, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "snapshot_download", None)
    for given in (source, Path("org/name")):
        with pytest.raises(WeightsError, match="is no folder: give the folder that holds config"):
            models.load(given)


def test_a_file_and_a_revision_of_a_folder_or_url_are_refused(folder, url):
    with pytest.raises(WeightsError, match=r"config\.json is no folder"):
        models.load(folder / "config.json")
    for source in (folder, url):
        with pytest.raises(WeightsError, match="has no revisions, a model of the Hub has"):
            models.load(source, revision="main")


@pytest.fixture
def hub(folder, tmp_path, monkeypatch):
    """A stand-in for snapshot_download: calls, and an error to raise or None."""
    calls = []

    def download(name, *, revision, allow_patterns, ignore_patterns, tqdm_class):
        calls.append((name, revision, allow_patterns))
        assert not any(pattern.endswith((".bin", ".pt", "*")) for pattern in allow_patterns)
        if hub.error is not None:
            raise hub.error
        snapshot = tmp_path / "models--org--name" / "snapshots" / "0123"
        snapshot.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():
            if path.name in allow_patterns or (
                path.suffix == ".json" and "*.json" in allow_patterns
            ):
                (snapshot / path.name).write_bytes(path.read_bytes())
        return str(snapshot)

    hub.calls, hub.error = calls, None
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.chdir(tmp_path)
    return hub


def test_a_hub_model_is_fetched_small_files_first_and_only_the_weights_of_its_index(tiny, hub):
    model, params = models.load("org/name", revision="v1")
    assert model.config == tiny[0].config
    jax.tree.map(same, tiny[1], params)
    assert {call[:2] for call in hub.calls} == {("org/name", "v1")}
    assert not any("safetensors" in pattern for pattern in hub.calls[0][2])
    files = [pattern for pattern in hub.calls[-1][2] if pattern.endswith(".safetensors")]
    assert files == [f"model-0000{i}-of-00004.safetensors" for i in (1, 2, 3, 4)]


def test_a_hub_configuration_is_read_without_the_weights(hub):
    models.read_decoder_config("org/name")
    found = resolve("org/name", weights=False)
    assert isinstance(found, Path) and not list(found.glob("*.safetensors"))
    assert list(resolve("org/name").glob("*.safetensors"))


def test_a_hub_model_that_cannot_be_read_is_not_fetched(hub, folder, tmp_path, monkeypatch):
    config = tmp_path / "models--org--name" / "snapshots" / "0123" / "config.json"
    read = Path.read_bytes
    other = json.dumps({"model_type": "mamba"}).encode()
    monkeypatch.setattr(Path, "read_bytes", lambda p: other if p.name == config.name else read(p))
    with pytest.raises(WeightsError, match="model_type 'mamba' is not supported"):
        models.load("org/name")
    assert len(hub.calls) == 1


def test_a_folder_of_that_name_comes_before_the_hub(hub, folder, tmp_path):
    (tmp_path / "org").mkdir()
    os.symlink(folder, tmp_path / "org" / "name")
    models.load("org/name")
    assert not hub.calls


def answer(status):
    return SimpleNamespace(status_code=status, headers={}, request=None)


LICENCE = r"org/name is gated: set HF_TOKEN or run hf auth login, after accepting the licence at "
LICENCE += "https://huggingface.co/org/name"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (errors.GatedRepoError("403 Client Error", response=answer(403)), LICENCE),
        (errors.HfHubHTTPError("401 Invalid token", response=answer(401)), LICENCE),
        (errors.HfHubHTTPError("403 Forbidden", response=answer(403)), LICENCE),
        (
            errors.RepositoryNotFoundError("404", response=answer(404)),
            "org/name is neither a folder here nor a model of the Hub: check the spelling; for a",
        ),
        (errors.HFValidationError("bad"), "is neither a folder here nor a model of the Hub"),
        (
            errors.RevisionNotFoundError("404", response=answer(404)),
            "org/name has no revision 'v1': see https://huggingface.co/org/name/commits",
        ),
        (errors.LocalEntryNotFoundError("offline"), "is no folder here, and .* out of reach"),
        (
            errors.HfHubHTTPError("500 Server\nError", response=answer(500)),
            r"org/name cannot be fetched from the Hub \(HfHubHTTPError: 500 Server Error\)\.",
        ),
        (OSError("No space left"), r"cannot be fetched from the Hub \(OSError: No space left\)\."),
    ],
)
def test_what_the_hub_refuses_is_one_clear_sentence(hub, error, message):
    hub.error = error
    with pytest.raises(WeightsError, match=message) as caught:
        models.load("org/name", revision="v1")
    assert "\n" not in str(caught.value)


def test_the_real_hub_client_offline_is_one_clear_sentence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError, match="no-such-org/no-such-model is no folder here"):
        models.load("no-such-org/no-such-model")
