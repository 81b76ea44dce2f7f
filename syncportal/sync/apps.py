"""Registers the sync app with Django, and its bulk acts with the bulk room."""

from django.apps import AppConfig

from syncportal.bulk import acts


class SyncConfig(AppConfig):
    """The life of one record: saving, pushing, conflicts, history."""

    name = "syncportal.sync"
    label = "sync"
    verbose_name = "Records"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Make the bulk acts on records and conflicts known."""
        names = {"records.requeue": "REQUEUE", "records.refresh": "REFRESH", "records.assign": "ASSIGN"}
        acts.register({name: f"syncportal.sync.bulk_acts.{act}" for name, act in names.items()})
        deciding = {"conflicts.remote_wins": "REMOTE_WINS", "conflicts.local_wins": "LOCAL_WINS"}
        acts.register({name: f"syncportal.sync.conflict_acts.{act}" for name, act in deciding.items()})
