# SPDX-License-Identifier: Apache-2.0
"""From names in a configuration to methods and back, for the table's and for those of your own."""

import dataclasses
from typing import Any, get_type_hints

from unilogit_jax.errors import ConfigError, suggest
from unilogit_jax.imports import import_name
from unilogit_jax.methods import METHODS


def method_class(name: Any) -> type[Any]:
    """The method of a name: of the table, or one of your own as "my_package.my_file:MyMethod".

    Args:
      name: what a configuration has as `method.name`.

    Returns:
      A frozen dataclass with `needs` and a call.

    Raises:
      ConfigError: there is none of that name, or what is there is no method.

    Example:
      >>> method_class("npo").__name__
      'Npo'
      >>> method_class("unilogit_jax.methods.npo:Npo") is method_class("npo")
      True

    """
    if not isinstance(name, str) or ":" not in name:
        if name not in list(METHODS):
            known = ", ".join(METHODS)
            raise ConfigError(
                f"unknown method '{name}'.{suggest(str(name), METHODS)} Methods: {known}."
            )
        return METHODS[name]
    try:
        found = import_name(name)
    except ImportError as error:
        raise ConfigError(
            f"the method '{name}' cannot be imported from the working directory or what is "
            f"installed: {error}."
        ) from error
    if missing := _missing(found):
        raise ConfigError(f"'{name}' is no method: {missing}.")
    return found


def method_name(method: Any) -> str:
    """The name that a configuration chooses a method by.

    Example:
      >>> method_name(METHODS["npo"]())
      'npo'

    """
    cls = type(method)
    of_table = next((name for name, known in METHODS.items() if known is cls), None)
    return of_table or f"{cls.__module__}:{cls.__qualname__}"


def method_label(method: Any) -> str:
    """A word for folders, stages and columns.

    That is its `label` if it has one, else the table's name, or the class's in lower case.

    Example:
      >>> method_label(METHODS["grad_diff"]()), method_label(METHODS["npo"](label="npo-2"))
      ('grad_diff', 'npo-2')

    """
    if label := getattr(method, "label", ""):
        return label
    name = method_name(method)
    return name if name in METHODS else type(method).__name__.lower()


def _missing(found: Any) -> str:
    """What keeps something from being a method; empty if nothing does."""
    if not isinstance(found, type):
        return f"it is a {type(found).__name__}, not a class"
    # A class below a dataclass is one itself, but its own fields are not.
    parameters = vars(found).get("__dataclass_params__")
    if not dataclasses.is_dataclass(found) or parameters is None:
        return "it is not a dataclass; write @dataclass(frozen=True, kw_only=True) above it"
    if not parameters.frozen:
        return "it is a dataclass that is not frozen; write @dataclass(frozen=True, kw_only=True)"
    called = any("__call__" in vars(base) for base in found.__mro__)
    if not called or not hasattr(found, "needs"):
        return "it has no `needs` or no call; deriving it from Unlearning gives it both"
    try:
        get_type_hints(found)
    except Exception as error:
        return f"the type of a field has no meaning ({error})"
    return ""
