# SPDX-License-Identifier: Apache-2.0
"""What a command says that is refused."""

from unilogit_jax import cli


def refused(capsys, *words: str) -> str:
    """What a refused command says: on standard error only, with exit code 2."""
    assert cli.main(words) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and "Traceback" not in printed.err
    return printed.err.strip()
