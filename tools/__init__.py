"""Tools for the maintainers; see README.md in this folder. Run them from the root as `python -m tools.NAME`."""
