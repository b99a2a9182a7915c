"""Searches for the best values of overrides: many runs of one study, shared by any number of worker processes."""
