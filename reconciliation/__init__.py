"""Reconciliation: comparing both sides of a resource completely, and what to do about the differences."""
