# SPDX-License-Identifier: Apache-2.0
"""A config file of the test's own."""

import pytest


@pytest.fixture
def write(tmp_path):
    """Writes a config file and returns its path."""

    def write(text: str | bytes, name: str = "mine.yaml"):
        path = tmp_path / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write
