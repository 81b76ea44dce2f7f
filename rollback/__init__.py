"""Grouped updates: all or nothing by compensation. Empty until its tables arrive with that feature."""
