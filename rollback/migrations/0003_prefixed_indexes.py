"""Drop the indexes of relations that another index begins with: each write kept both.

Dropped by name, because SQLite would copy whole tables to alter a column.
"""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

_DROPPED = (
    ("rollback_group_request_id_0cf655e1", "rollback_group", "request_id"),
    ("rollback_groupedupdate_user_id_beed5e6a", "rollback_groupedupdate", "user_id"),
    ("rollback_step_group_id_2bbe52d3", "rollback_step", "group_id"),
)


class Migration(migrations.Migration):

    dependencies = [
        ('rollback', '0002_looked_at'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.AlterField(
                    model_name='group',
                    name='request',
                    field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='groups', to='rollback.groupedupdate'),
                ),
                migrations.AlterField(
                    model_name='groupedupdate',
                    name='user',
                    field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL),
                ),
                migrations.AlterField(
                    model_name='step',
                    name='group',
                    field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='steps', to='rollback.group'),
                ),
            ],
            database_operations=[
                migrations.RunSQL(f"DROP INDEX IF EXISTS {name}", f"CREATE INDEX {name} ON {table} ({column})")
                for name, table, column in _DROPPED
            ],
        ),
    ]
