# SPDX-License-Identifier: Apache-2.0
"""The Hub's real client, against a small server that answers as the Hub does."""

import hashlib
import json
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import jax
import numpy as np
import pytest
from huggingface_hub import constants

from unilogit_jax import models
from unilogit_jax.errors import WeightsError

COMMIT = "b" * 40


@contextmanager
def serving(folder):
    """Serves a folder as the model org/name; yields the URL and the paths that were asked for."""
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    asked = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            asked.append(self.path)
            name = self.path.rpartition("/")[2]
            if self.path.startswith("/api/models/org/name/tree/"):
                kind = {"type": "file", "oid": "a" * 40}
                rows = [kind | {"path": n, "size": len(data)} for n, data in files.items()]
                self.answer(json.dumps(rows).encode())
            elif self.path.startswith("/api/models/org/name/revision/"):
                rows = [{"rfilename": name} for name in files]
                self.answer(
                    json.dumps({"id": "org/name", "sha": COMMIT, "siblings": rows}).encode()
                )
            elif "/resolve/" in self.path and name in files:
                etag = hashlib.sha1(files[name]).hexdigest()
                self.answer(files[name], {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT})
            else:
                self.answer(b"", status=404)

        do_HEAD = do_GET

        def answer(self, data, headers=None, status=200):
            self.send_response(status)
            for name, value in {"Content-Length": len(data), **(headers or {})}.items():
                self.send_header(name, str(value))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data)

        def log_message(self, *_, **__):
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def hub_at(tmp_path, monkeypatch):
    """Points the client at a server, with a cache of its own."""

    def point(url):
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "ENDPOINT", url)
        template = url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)

    monkeypatch.chdir(tmp_path)
    return point


@pytest.fixture
def folder(tiny, tmp_path):
    path = tmp_path / "model"
    models.save(path, *tiny, file_bytes=30_000)
    (path / "pytorch_model.bin").write_bytes(b"a pickle")
    return path


def test_a_model_is_fetched_with_progress_and_without_pickles(tiny, folder, hub_at):
    seen = []
    with serving(folder) as (url, asked):
        hub_at(url)
        _, params = models.load("org/name", progress=lambda *so_far: seen.append(so_far))
        jax.tree.map(np.testing.assert_array_equal, tiny[1], params)
        assert not any(path.endswith(".bin") for path in asked)
        before = len(asked)
        models.load("org/name")
        assert not any(path.endswith(".safetensors") for path in asked[before:])
    weights = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    fetched = [so_far for so_far in seen if so_far[1] == weights]
    assert fetched[-1] == (weights, weights)
    assert [done for done, _ in fetched] == sorted({done for done, _ in fetched})
    made = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    assert seen[-1] == (made, made)


def test_a_file_that_the_hub_does_not_have_is_named(folder, hub_at):
    (folder / "model-00002-of-00004.safetensors").unlink()
    with serving(folder) as (url, _):
        hub_at(url)
        with pytest.raises(WeightsError, match=r"model-00002-of-00004\.safetensors is missing"):
            models.load("org/name")


def test_progress_that_fails_is_not_taken_for_the_hub(folder, hub_at):
    def stop(*_):
        raise KeyboardInterrupt

    with serving(folder) as (url, _):
        hub_at(url)
        with pytest.raises(KeyboardInterrupt):
            models.load("org/name", progress=stop)
