"""Grouped updates: several remote objects changed as one, all or nothing by compensation."""
