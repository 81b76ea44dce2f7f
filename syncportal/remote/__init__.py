"""Remotes and resources: how a master API is reached, and what it guarantees."""
