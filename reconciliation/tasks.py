"""Names of the background tasks as the doorbell rings them; `workers.py` holds what they run."""

RECONCILE = "reconciliation.workers.reconcile"
REPAIR = "reconciliation.workers.repair"
