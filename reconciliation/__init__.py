"""Reconciliation of both sides. Empty until its tables arrive with that feature."""
