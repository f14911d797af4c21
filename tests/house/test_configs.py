# SPDX-License-Identifier: Apache-2.0
"""The configurations of published models are those that their script writes."""

from unilogit_jax.config import config_names, config_path


def test_they_are_what_the_script_says_now(script):
    made = script("configs")
    ours = [name for name in config_names() if "/" in name]
    assert ours == sorted(made.SETTINGS)
    for name in ours:
        assert config_path(name).read_text() == made.page(name), "run python scripts/configs.py"
