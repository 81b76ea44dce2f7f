"""Registers the access app with Django."""

from django.apps import AppConfig


class AccessConfig(AppConfig):
    """Who may call: API keys, roles, idempotency keys and the shape of API errors."""

    name = "syncportal.access"
    label = "access"
    verbose_name = "Access"
    default_auto_field = "django.db.models.BigAutoField"
