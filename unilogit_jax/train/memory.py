# SPDX-License-Identifier: Apache-2.0
"""Tells the end of a device's memory from other errors."""

import jax


def out_of_memory(error: BaseException) -> str | None:
    r"""What JAX said, on one line, if a device's memory did not suffice; else None.

    Example:
      >>> out_of_memory(jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory\nmore"))
      'RESOURCE_EXHAUSTED: Out of memory'
      >>> out_of_memory(MemoryError()) is None
      True

    """
    text = str(error)
    if not isinstance(error, jax.errors.JaxRuntimeError):
        return None
    if "RESOURCE_EXHAUSTED" not in text and "out of memory" not in text.lower():
        return None
    return text.partition("\n")[0][:200]
