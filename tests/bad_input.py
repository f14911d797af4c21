# SPDX-License-Identifier: Apache-2.0
"""What tests of bad input share: how many examples, always the same ones, and trees as JSON's."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st


def few(examples):
    """Settings: so many examples, the same in every run, however long one takes."""
    return settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def trees(keys, *, odd=(), leaves):
    """Whatever JSON can hold, with these keys, and these odd values among others."""
    plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6)
    return st.recursive(
        plain | st.sampled_from(odd) if odd else plain,
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(keys), inner, max_size=3)
        ),
        max_leaves=leaves,
    )
