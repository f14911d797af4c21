# SPDX-License-Identifier: Apache-2.0
"""The same as `unilogit evaluate`, for launchers that start a file on every host."""

import sys

from unilogit_jax.cli import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
