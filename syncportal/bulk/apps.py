"""Registers the bulk app with Django."""

from django.apps import AppConfig


class BulkConfig(AppConfig):
    """Operations on many rows: what was asked, how far it is, what became of each row."""

    name = "syncportal.bulk"
    label = "bulk"
    verbose_name = "Bulk operations"
    default_auto_field = "django.db.models.BigAutoField"
