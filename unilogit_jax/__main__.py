# SPDX-License-Identifier: Apache-2.0
"""`python -m unilogit_jax`: the same as `unilogit`."""

import sys

from unilogit_jax.cli import main

if __name__ == "__main__":
    sys.exit(main())
