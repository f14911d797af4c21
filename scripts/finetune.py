# SPDX-License-Identifier: Apache-2.0
"""The same as `unilogit finetune`, for launchers that start a file on every host."""

import sys

from unilogit_jax.cli import main

if __name__ == "__main__":
    sys.exit(main(["finetune", *sys.argv[1:]]))
