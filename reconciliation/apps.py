"""Registers the reconciliation app with Django."""

from django.apps import AppConfig

from syncportal.bulk import acts


class ReconciliationConfig(AppConfig):
    """Runs that compare both sides, and the discrepancies they confirm."""

    name = "reconciliation"
    label = "reconciliation"
    verbose_name = "Reconciliation"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Make the bulk acts on discrepancies known."""
        names = ("TAKE_REMOTE", "PUSH_LOCAL", "IGNORE")
        acts.register({f"discrepancies.{name.lower()}": f"reconciliation.bulk_acts.{name}" for name in names})
