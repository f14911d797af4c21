# SPDX-License-Identifier: Apache-2.0
"""Where a run may be, as one process finds out; several do in tests/test_several_hosts.py."""

import pytest

from unilogit_jax.errors import StorageError
from unilogit_jax.hosts import check_shared
from unilogit_jax.paths import to_path


def test_a_disk_is_not_touched_by_a_single_process(tmp_path):
    check_shared(tmp_path / "runs")
    assert not list(tmp_path.iterdir())


def test_a_bucket_is_tried_by_a_single_process_too_and_nothing_is_left(gcs):
    check_shared(to_path(f"{gcs.url}/runs"))
    assert len(gcs.wrote) == 1 and not gcs.names()


@pytest.mark.parametrize("code", [401, 403])
def test_a_bucket_that_takes_nothing_is_refused(gcs, code):
    gcs.refused["POST", gcs.bucket] = code
    with pytest.raises(StorageError, match=r"runs/.* cannot be written \(.*the stand-in refuses"):
        check_shared(to_path(f"{gcs.url}/runs"))
