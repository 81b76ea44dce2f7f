"""Registers the sync app with Django."""

from django.apps import AppConfig


class SyncConfig(AppConfig):
    """The life of one record: saving, pushing, conflicts, history."""

    name = "syncportal.sync"
    label = "sync"
    verbose_name = "Records"
    default_auto_field = "django.db.models.BigAutoField"
