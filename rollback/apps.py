"""Registers the rollback app with Django."""

from django.apps import AppConfig


class RollbackConfig(AppConfig):
    """Grouped updates and their compensating tasks."""

    name = "rollback"
    label = "rollback"
    verbose_name = "Grouped updates"
    default_auto_field = "django.db.models.BigAutoField"
