# SPDX-License-Identifier: Apache-2.0
"""A small config, and what is said of one that is refused."""

import pytest

from unilogit_jax.config import load_config
from unilogit_jax.errors import ConfigError

MINIMAL = """\
name: small
model: {scratch: {}}
data: {benchmark: toy}
"""


def message(source, *overrides) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(source, *overrides)
    return str(caught.value)


def lines(source, *overrides) -> list[str]:
    """The problems, without the headline."""
    return [line.strip() for line in message(source, *overrides).splitlines()[1:]]
