"""Names of the background tasks as the doorbell rings them; `workers.py` holds what they run."""

DRAIN = "syncportal.sync.workers.drain"
REFRESH = "syncportal.sync.workers.refresh"
PULL = "syncportal.sync.workers.pull"
