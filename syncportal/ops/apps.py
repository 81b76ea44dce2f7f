"""Registers the ops app, and its system checks, with Django."""

from django.apps import AppConfig

from syncportal.ops import checks  # registers the system checks

__all__ = ["OpsConfig", "checks"]


class OpsConfig(AppConfig):
    """Operating the system: worker supervisor, health, start page, timetable."""

    name = "syncportal.ops"
    label = "ops"
    verbose_name = "Operations"
    default_auto_field = "django.db.models.BigAutoField"
