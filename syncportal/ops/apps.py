"""Registers the ops app with Django."""

from django.apps import AppConfig


class OpsConfig(AppConfig):
    """Operating the system: worker supervisor, health, start page, timetable."""

    name = "syncportal.ops"
    label = "ops"
    verbose_name = "Operations"
    default_auto_field = "django.db.models.BigAutoField"
