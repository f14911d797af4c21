# SPDX-License-Identifier: Apache-2.0
"""The type of `method` and of the entries of `compare`: any method, by its name."""

import dataclasses
from functools import cache, reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import (
    ConfigDict,
    Field,
    PlainSerializer,
    SerializationInfo,
    TypeAdapter,
    WrapValidator,
    with_config,
)
from pydantic.errors import PydanticUserError
from pydantic_core import PydanticCustomError, PydanticKnownError

from unilogit_jax.config.find_method import method_class, method_name
from unilogit_jax.errors import ConfigError
from unilogit_jax.methods import METHODS, Method, Unlearning

NO_NAME, NO_METHOD = "method_name_missing", "method_name"
"""Kinds of errors: there is no `name`; there is no such method, and the message says why."""


@cache
def adapter_of(cls: type[Any]) -> TypeAdapter[Any]:
    """What reads and writes a method's fields.

    Raises:
      ConfigError: a field has a type that cannot be read from a file.

    """
    # Methods that derive from nothing here get the same rules.
    if not hasattr(cls, "__pydantic_config__"):
        with_config(ConfigDict(**Unlearning.__pydantic_config__))(cls)
    try:
        return TypeAdapter(cls)
    except PydanticUserError as error:
        said = str(error).partition("\n")[0].rstrip(".")
        raise ConfigError(
            f"the fields of the method {cls.__name__} cannot be read from a file: {said}."
        ) from error


def _read(value: Any, handler: Any) -> Any:
    """A method, from itself or from keys; errors of its fields keep their places."""
    del handler  # the union of the table is there for the JSON schema
    if isinstance(value, Method) and dataclasses.is_dataclass(value):
        return value
    if not isinstance(value, dict):
        raise PydanticKnownError("dataclass_type", {"class_name": "Method"})
    if "name" not in value:
        raise PydanticCustomError(NO_NAME, "missing name")
    try:
        cls = method_class(value["name"])
        adapter = adapter_of(cls)
    except ConfigError as error:
        raise PydanticCustomError(NO_METHOD, "{sentence}", {"sentence": str(error)}) from None
    # A class of one's own need not have the field, or may have put something else into it.
    own = {f.name: f for f in dataclasses.fields(cls)}.get("name")
    fixed = own is None or own.default is not dataclasses.MISSING
    return adapter.validate_python({k: v for k, v in value.items() if not fixed or k != "name"})


def _write(method: Any, info: SerializationInfo) -> dict[str, Any]:
    """All keys; the name is the one that finds the class again."""
    mode = "json" if info.mode_is_json() else "python"
    fields = adapter_of(type(method)).dump_python(method, mode=mode)
    return {"name": method_name(method)} | {k: v for k, v in fields.items() if k != "name"}


if TYPE_CHECKING:
    MethodConfig = Unlearning
else:
    MethodConfig = Annotated[
        reduce(or_, METHODS.values()),
        Field(discriminator="name"),
        WrapValidator(_read),
        PlainSerializer(_write),
    ]
