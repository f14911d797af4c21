# SPDX-License-Identifier: Apache-2.0
"""Which trackers are here: tests of the real ones belong to environments that have them."""

from importlib.util import find_spec

# `pip install 'unilogit_jax[wandb,trackio]'` brings both; their fakes are tested everywhere.
collect_ignore = [f"test_run_{name}.py" for name in ("wandb", "trackio") if find_spec(name) is None]
