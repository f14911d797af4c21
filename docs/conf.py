# SPDX-License-Identifier: Apache-2.0
"""Settings of Sphinx; the build needs no network and no accelerator."""

import os
import sys
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
sys.path.insert(0, str(Path(__file__).parent / "_ext"))

from unilogit_jax import __version__

project = "unilogit_jax"
author = "The unilogit_jax authors"
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "plain_docstrings",
    "generated_pages",
]
exclude_patterns = ["_build", "_ext", "examples", "methods-list.md"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"unilogit_jax {release}"
html_show_sourcelink = False
html_copy_source = False

default_role = "code"
add_module_names = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
