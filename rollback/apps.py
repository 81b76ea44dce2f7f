"""Registers the rollback app with Django."""

from django.apps import AppConfig

from syncportal.bulk import acts
from syncportal.sync import holders
from syncportal.sync.holders import HolderKind


class RollbackConfig(AppConfig):
    """Grouped updates and their compensating tasks."""

    name = "rollback"
    label = "rollback"
    verbose_name = "Grouped updates"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Make known who holds records here, what a person's decision about a held record ends, and the bulk act."""
        page = "rollback.screens.holder_pages.address_of"
        decided = "rollback.operate.conflict_decided"
        holders.register("group", HolderKind("a grouped update", page=page))
        acts.register({"tasks.retry": "rollback.bulk_acts.RETRY"})
        holders.register("task", HolderKind("a compensating task", decided=decided, page=page))
