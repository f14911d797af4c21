# SPDX-License-Identifier: Apache-2.0
"""Ranges of hyper-parameters: they are checked where a configuration is read, not by a method."""

from typing import Annotated

from annotated_types import Ge, Gt, Lt

Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
Weight = NonNegative
"""Of a term of the loss; 0 leaves it out."""
Share = Annotated[float, Ge(0), Lt(1)]
"""A probability or a part of a whole, short of all of it."""
Count = Annotated[int, Ge(1)]
