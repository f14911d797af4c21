# SPDX-License-Identifier: Apache-2.0
"""Imported for its effect: what XLA compiles for a CPU from here on runs on one thread."""

import os

os.environ.setdefault(
    "XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
)
