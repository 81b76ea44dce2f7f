"""Drop the indexes of relations that another index begins with: each write kept both.

Dropped by name, because SQLite would copy whole tables to alter a column.
"""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

_DROPPED = (
    ("sync_event_record_id_ab6b07ed", "sync_event", "record_id"),
    ("sync_record_owner_id_0581c089", "sync_record", "owner_id"),
    ("sync_record_resource_id_3a4e00fa", "sync_record", "resource_id"),
    ("sync_synclog_record_id_eb86d755", "sync_synclog", "record_id"),
    ("sync_synclog_resource_id_4f44d4fa", "sync_synclog", "resource_id"),
)


class Migration(migrations.Migration):

    dependencies = [
        ('remote', '0002_prefixed_indexes'),
        ('sync', '0009_history_removed_at'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.AlterField(
                    model_name='event',
                    name='record',
                    field=models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='events', to='sync.record'),
                ),
                migrations.AlterField(
                    model_name='record',
                    name='owner',
                    field=models.ForeignKey(blank=True, db_index=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='owned_records', to=settings.AUTH_USER_MODEL),
                ),
                migrations.AlterField(
                    model_name='record',
                    name='resource',
                    field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='records', to='remote.resource'),
                ),
                migrations.AlterField(
                    model_name='synclog',
                    name='record',
                    field=models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='logs', to='sync.record'),
                ),
                migrations.AlterField(
                    model_name='synclog',
                    name='resource',
                    field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='remote.resource'),
                ),
            ],
            database_operations=[
                migrations.RunSQL(f"DROP INDEX IF EXISTS {name}", f"CREATE INDEX {name} ON {table} ({column})")
                for name, table, column in _DROPPED
            ],
        ),
    ]
