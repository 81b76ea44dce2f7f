"""Drop the indexes of relations that another index begins with: each write kept both.

Dropped by name, because SQLite would copy whole tables to alter a column.
"""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

_DROPPED = (
    ("bulk_bulkoperation_user_id_82c668ce", "bulk_bulkoperation", "user_id"),
    ("bulk_bulkrow_operation_id_5a315723", "bulk_bulkrow", "operation_id"),
)


class Migration(migrations.Migration):

    dependencies = [
        ('bulk', '0001_initial'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.AlterField(
                    model_name='bulkoperation',
                    name='user',
                    field=models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL),
                ),
                migrations.AlterField(
                    model_name='bulkrow',
                    name='operation',
                    field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='rows', to='bulk.bulkoperation'),
                ),
            ],
            database_operations=[
                migrations.RunSQL(f"DROP INDEX IF EXISTS {name}", f"CREATE INDEX {name} ON {table} ({column})")
                for name, table, column in _DROPPED
            ],
        ),
    ]
