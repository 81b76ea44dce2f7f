"""Registers the reconciliation app with Django."""

from django.apps import AppConfig


class ReconciliationConfig(AppConfig):
    """Runs that compare both sides, and the discrepancies they confirm."""

    name = "reconciliation"
    label = "reconciliation"
    verbose_name = "Reconciliation"
    default_auto_field = "django.db.models.BigAutoField"
