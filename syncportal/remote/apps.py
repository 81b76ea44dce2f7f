"""Registers the remote app with Django."""

from django.apps import AppConfig


class RemoteConfig(AppConfig):
    """Remotes and resources: how a master API is reached, and what it guarantees."""

    name = "syncportal.remote"
    label = "remote"
    verbose_name = "Remotes"
    default_auto_field = "django.db.models.BigAutoField"
