# SPDX-License-Identifier: Apache-2.0
"""Several processes of one run: how they find each other, agree, and share a folder."""

from unilogit_jax.hosts.find import Start, find_start
from unilogit_jax.hosts.shared import check_shared
from unilogit_jax.hosts.start import start_hosts
from unilogit_jax.hosts.talk import (
    agreed,
    by_first,
    check_same,
    exchange,
    failed_alone,
    from_first,
    is_first,
    process_number,
    several,
)

__all__ = [
    "Start",
    "agreed",
    "by_first",
    "check_same",
    "check_shared",
    "exchange",
    "failed_alone",
    "find_start",
    "from_first",
    "is_first",
    "process_number",
    "several",
    "start_hosts",
]
