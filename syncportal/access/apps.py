"""Registers the access app with Django."""

from typing import Any

from django.apps import AppConfig, apps
from django.db.models.signals import post_migrate

from syncportal.access.roles import make_roles


class AccessConfig(AppConfig):
    """Who may call: API keys, roles, idempotency keys and the shape of API errors."""

    name = "syncportal.access"
    label = "access"
    verbose_name = "Access"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Have the roles made whenever the tables were brought up to date."""
        post_migrate.connect(_after_migrate, dispatch_uid="access.roles")


def _after_migrate(sender: AppConfig, **kwargs: Any) -> None:
    """Run once a migrate, after the last app: Django has made the permissions of all of them by then."""
    last = [config for config in apps.get_app_configs() if config.models_module is not None][-1]
    if sender.label == last.label and kwargs.get("using") == "default":
        make_roles()
