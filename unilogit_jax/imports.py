# SPDX-License-Identifier: Apache-2.0
"""Objects of your own, named in a configuration as my_package.my_file:NAME."""

import importlib
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def import_name(name: str) -> Any:
    """What a name means: an object of a module that is installed or in the working directory.

    Args:
      name: module, colon, object; the object may be an attribute of another, as in "a.b:C.D".

    Raises:
      ImportError: there is no such module or object, or the module cannot be run; the message says
        which, and where.

    Example:
      >>> import_name("collections:OrderedDict").__name__
      'OrderedDict'

    """
    module, _, attributes = name.partition(":")
    try:
        with _working_directory():
            found = importlib.import_module(module)
    except ImportError:
        raise
    except Exception as error:
        raise ImportError(f"{type(error).__name__}: {error}{_place(error)}") from error
    for attribute in attributes.split("."):
        try:
            found = getattr(found, attribute)
        except AttributeError as error:
            raise ImportError(str(error)) from error
    return found


@contextmanager
def _working_directory() -> Iterator[None]:
    """Looked into last, so that a file there hides nothing that is installed."""
    folder = os.getcwd()
    # A file that was written since the last look would not be found otherwise.
    importlib.invalidate_caches()
    sys.path.append(folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


def _place(error: Exception) -> str:
    """File and line that an error comes from; a syntax error says so itself."""
    if isinstance(error, SyntaxError):
        return ""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f" ({os.path.basename(last.filename)}, line {last.lineno})"
