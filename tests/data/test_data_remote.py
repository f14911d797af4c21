# SPDX-License-Identifier: Apache-2.0
"""Data files behind URLs."""

import json
from pathlib import Path

import datasets
import fsspec
import pytest

from unilogit_jax.benchmarks import BENCHMARKS
from unilogit_jax.data import Source, read_examples
from unilogit_jax.errors import DataError, StorageError

ROWS = [
    {"question": "Who?", "answer": "Ann."},
    {"question": "Grün\u2028?", "answer": "Yes,\nit is."},
]


@pytest.fixture
def files(tmp_path):
    """The same rows in every form."""
    text = [json.dumps(row, ensure_ascii=False) for row in ROWS]
    (tmp_path / "a.jsonl").write_text("\n".join(text), encoding="utf-8")
    (tmp_path / "b.json").write_text("\ufeff" + json.dumps(ROWS), encoding="utf-8")
    table = datasets.Dataset.from_list(ROWS)
    table.to_csv(str(tmp_path / "c.csv"))
    table.to_parquet(str(tmp_path / "d.parquet"))
    return sorted(tmp_path.iterdir())


def test_rows_of_a_bucket_are_those_of_a_disk(gcs, files):
    for path in files:
        gcs.write(f"rows/{path.name}", path.read_bytes())
        read = read_examples(f"{gcs.url}/rows/{path.name}")
        assert [(e.question, e.answer) for e in read] == [tuple(row.values()) for row in ROWS]


def test_rows_are_read_from_other_stores_too(files):
    for path in files:
        fsspec.filesystem("memory").pipe_file(f"/rows/{path.name}", path.read_bytes())
        assert len(read_examples(f"memory://rows/{path.name}")) == 2


def test_tofu_in_a_bucket_is_tofu_on_a_disk(gcs):
    here = Path(__file__).parent / "tofu"
    for path in here.iterdir():
        gcs.write(f"tofu/{path.name}", path.read_bytes())
    local, remote = (BENCHMARKS["tofu"](Source(dir=str(d))) for d in (here, f"{gcs.url}/tofu"))
    assert local.probes == remote.probes

    def texts(rows):
        return [(row.question, row.answer) for row in rows]

    assert texts(local.forget) == texts(remote.forget)
    assert texts(local.retain) == texts(remote.retain)
    with pytest.raises(DataError, match=r"/tofu holds: forget10, .* Did you mean 'forget10'"):
        BENCHMARKS["tofu"](Source(dir=f"{gcs.url}/tofu", forget="forget1"))


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("{url}/rows/forgot.jsonl", DataError, "not found: gs://.*Did you mean 'forget.jsonl'"),
        ("{url}/rows/bad.jsonl", DataError, r"gs://.*/rows/bad\.jsonl, line 1: not valid JSON"),
        ("{url}/rows/bad.parquet", DataError, r"gs://.*/rows/bad\.parquet cannot be read as parq"),
        ("gs://none/rows.jsonl", DataError, r"not found: gs://none/rows\.jsonl"),
        ("gss://b/rows.jsonl", StorageError, "Protocol not known: gss. Did you mean 'gs'"),
    ],
)
def test_what_is_wrong_with_a_url_is_one_sentence(gcs, name, error, message):
    for place in ("forget.jsonl", "bad.jsonl", "bad.parquet"):
        gcs.write(f"rows/{place}", b"{x")
    with pytest.raises(error, match=message):
        read_examples(name.format(url=gcs.url))


def test_a_bucket_that_refuses_does_not_look_like_a_missing_file(gcs):
    gcs.refused[gcs.bucket] = 403
    with pytest.raises(StorageError, match=r"cannot be read .*the stand-in refuses"):
        read_examples(f"{gcs.url}/rows.jsonl")
