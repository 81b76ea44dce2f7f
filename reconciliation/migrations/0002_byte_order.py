"""Index external ids by their UTF-8 bytes, so that both sides are read in one order.

SQLite compares text by bytes anyway and uses the indexes of the constraints.
"""

from django.db import migrations

_INDEXES = (
    ("record_by_bytes", "sync_record", "resource_id"),
    ("spooledrow_by_bytes", "reconciliation_spooledrow", "run_id"),
)


def _create(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        for name, table, owner in _INDEXES:
            schema_editor.execute(f'CREATE INDEX {name} ON {table} ({owner}, external_id COLLATE "C")')


def _drop(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        for name, _, _ in _INDEXES:
            schema_editor.execute(f"DROP INDEX {name}")


class Migration(migrations.Migration):
    dependencies = [("reconciliation", "0001_initial")]

    operations = [migrations.RunPython(_create, _drop)]
