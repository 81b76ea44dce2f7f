"""Measurements against the limits of the promises; `python -m bench` runs all of them.

Figures that depend on a machine's speed are ratios from one run. Each measurement runs in a process of its own with a
database of its own, and the demo master in another process.
"""
