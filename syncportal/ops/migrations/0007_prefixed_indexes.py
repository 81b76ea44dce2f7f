"""Drop the indexes of relations that another index begins with: each write kept both.

Dropped by name, because SQLite would copy whole tables to alter a column.
"""

import django.db.models.deletion
from django.db import migrations, models

_DROPPED = (
    ("ops_alert_rule_id_aebc642d", "ops_alert", "rule_id"),
)


class Migration(migrations.Migration):

    dependencies = [
        ('ops', '0006_reminder'),
    ]

    operations = [
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.AlterField(
                    model_name='alert',
                    name='rule',
                    field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='alerts', to='ops.alertrule'),
                ),
            ],
            database_operations=[
                migrations.RunSQL(f"DROP INDEX IF EXISTS {name}", f"CREATE INDEX {name} ON {table} ({column})")
                for name, table, column in _DROPPED
            ],
        ),
    ]
