# SPDX-License-Identifier: Apache-2.0
"""Experiment files behind URLs."""

import pytest

from unilogit_jax.config import config_path, load_config
from unilogit_jax.errors import ConfigError, StorageError


def test_a_config_in_a_bucket_is_the_one_of_a_disk(gcs):
    gcs.write("my.yaml", config_path("toy").read_bytes())
    assert load_config(f"{gcs.url}/my.yaml", "output.seed=3") == load_config("toy", "output.seed=3")


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("mine.yaml", ConfigError, r"no config file 'gs://.*/mine\.yaml'. Did you mean 'my.yaml'"),
        (
            "run",
            ConfigError,
            r"'gs://.*/run' is a folder.* Did you mean 'gs://.*/run/config\.yaml'",
        ),
        ("bad.yaml", ConfigError, r"config error in gs://.*/bad\.yaml\n  line 2"),
        ("../x/my.yaml", StorageError, r"x/my\.yaml cannot be read \(.*the stand-in refuses"),
    ],
)
def test_what_is_wrong_with_it_is_said_as_of_a_file(gcs, name, error, message):
    for place in ("my.yaml", "run/config.yaml"):
        gcs.write(place, config_path("toy").read_bytes())
    gcs.write("bad.yaml", b"nam: [\n")
    gcs.refused["x"] = 403
    url = "gs://x/my.yaml" if name.startswith("..") else f"{gcs.url}/{name}"
    with pytest.raises(error, match=message):
        load_config(url)
