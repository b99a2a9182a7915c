"""Build docs/ as a site: `make docs`."""

from digitnet import __version__

project = "digitnet"
release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"digitnet {release}"
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False  # those of Lightning refer to its own pages
autodoc_typehints = "description"
napoleon_numpy_docstring = False
