# SPDX-License-Identifier: Apache-2.0
"""Whole runs whose folder is in a bucket, as processes of their own, against runs on a disk."""

import json
import time

import jax
import numpy as np
import pytest
from command_line import SMALL, ends, lines, start, two_hosts, undisturbed, weights

from unilogit_jax import models, workflows
from unilogit_jax.config import load_config
from unilogit_jax.run import Console
from unilogit_jax.sharding import make_mesh

SETTINGS = (*SMALL, "finetune.steps=24", "output.checkpoint_every=3")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run on a disk that nobody disturbed."""
    return undisturbed(tmp_path_factory.mktemp("runs") / "whole", SETTINGS)


def copy(gcs, under, folder):
    """What a bucket holds, on the disk."""
    for name in gcs.names(f"{under}/"):
        path = folder / name.removeprefix(f"{under}/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gcs.read(name))
    return folder


def committed(gcs, stage):
    """Numbers of the checkpoints of a stage."""
    end = "/commit_success.txt"
    names = (name.removesuffix(end) for name in gcs.names(f"run/checkpoints/{stage}/"))
    return [
        int(name.split("/")[3]) for name in names if name.count("/") == 3 and name[-1].isdigit()
    ]


def wait_for_checkpoint(gcs, stage, step, *processes):
    began = time.monotonic()
    while not any(found >= step for found in committed(gcs, stage)):
        for process in processes:
            assert process.poll() is None, process.stderr.read()
        assert time.monotonic() - began < 300
        time.sleep(0.01)


def test_a_run_in_a_bucket_that_is_killed_and_resumed_ends_as_one_on_a_disk(gcs, whole, tmp_path):
    url = f"{gcs.url}/run"
    for words, stage in (
        (("toy", *SETTINGS, "--out", url), "target"),
        (("--resume", url), "unlearn"),
    ):
        process = start("unlearn", *words)
        wait_for_checkpoint(gcs, stage, 6, process)
        process.kill()
        process.communicate()
        assert gcs.read("run/status") == b"running\n"
        logged = [json.loads(line) for line in gcs.read("run/metrics.jsonl").splitlines()]
        steps = [line["step"] for line in logged if line["stage"] == stage]
        saved = max(committed(gcs, stage))
        assert steps[:saved] == list(range(1, saved + 1)), "lines up to the checkpoint are there"
    ends([start("unlearn", "--resume", url)], 0)
    run = copy(gcs, "run", tmp_path / "run")
    assert (run / "status").read_text() == "done\n"
    assert {p.name for p in run.iterdir()} == {p.name for p in whole.iterdir()}
    assert lines(run) == lines(whole)
    jax.tree.map(np.testing.assert_array_equal, weights(url), weights(whole))

    ends([start("export", url, f"{gcs.url}/model")], 0)
    workflows.export(whole, tmp_path / "model", console=Console(quiet=True))
    names = {path.name for path in (tmp_path / "model").iterdir()}
    assert {name.removeprefix("model/") for name in gcs.names("model/")} == names
    # A tokenizer that was loaded notes where it came from, on a disk too.
    for name in names - {"README.md", "tokenizer_config.json"}:
        assert gcs.read(f"model/{name}") == (tmp_path / "model" / name).read_bytes(), name
    _, read = models.load(f"{gcs.url}/model", mesh=make_mesh())
    jax.tree.map(np.testing.assert_array_equal, read, weights(whole))


def test_a_run_goes_on_from_weights_and_data_in_a_bucket(gcs, whole, tmp_path):
    for path in whole.rglob("*"):
        if path.is_file():
            gcs.write(f"start/{path.relative_to(whole)}", path.read_bytes())
    rows = [{"question": f"Who is {name}?", "answer": f"{name} is one."} for name in "ABCD"]
    text = "\n".join(map(json.dumps, rows))
    gcs.write("forget.jsonl", text.encode())
    (tmp_path / "forget.jsonl").write_text(text)
    found = []
    for place, source in ((gcs.url, f"{gcs.url}/start"), (tmp_path, whole)):
        words = (
            *("model.scratch=null", f"model.weights={source}", f"output.dir={place}/runs"),
            *("data.benchmark=files", f"data.forget={place}/forget.jsonl", "unlearn.steps=3"),
        )
        run = workflows.unlearn(load_config("toy", *SETTINGS, *words), console=Console(quiet=True))
        found.append((weights(run.path), run.summary.read_text()))
    jax.tree.map(np.testing.assert_array_equal, *(params for params, _ in found))
    numbers = [json.loads(text) for _, text in found]
    assert numbers[0]["after.forget_probability"] == numbers[1]["after.forget_probability"]


@pytest.mark.slow
def test_hosts_that_share_only_a_bucket_make_one_run(gcs, tmp_path):
    places = tmp_path / "node0", tmp_path / "node1"
    for place in places:
        place.mkdir()
    words = ("toy", *SETTINGS, "finetune.steps=6", "unlearn.steps=6", "--out", f"{gcs.url}/run")
    with two_hosts(*words, cwds=places) as processes:
        ends(processes, 0)
    run = copy(gcs, "run", tmp_path / "run")
    assert [line["step"] for line in lines(run)] == [*range(1, 7), *range(1, 7)]
    assert not any(path for place in places for path in place.iterdir())
    assert not [name for name in gcs.names() if ".shared-" in name]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("unlearn", "toy", "--out", "gss://b/x"), "not at gss://. Did you mean 'gs'?"),
        (("unlearn", "toy", "output.dir=nosuch://b/x"), "nosuch://b/x cannot be used"),
        (("unlearn", "--resume", "s3://b/x"), "s3://b/x cannot be used"),
        (("export", "{run}", "nosuch://b/x"), "nosuch://b/x cannot be used"),
        (("unlearn", "toy", "--out", "gs://none/x"), "there is no bucket gs://none"),
        (("unlearn", "--resume", "{url}/run"), "there is no run folder {url}/run."),
    ],
)
def test_places_that_cannot_be_used_are_one_sentence_and_nothing_is_made(
    gcs, whole, tmp_path, words, message
):
    fill = {"url": gcs.url, "run": whole}
    process = start(*(word.format(**fill) for word in words), cwd=tmp_path)
    (text,) = ends([process], 2)
    assert message.format(**fill) in text and len(text.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())
