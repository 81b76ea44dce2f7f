"""Drop the indexes of relations that another index begins with: each write kept both.

Dropped by name, because SQLite would copy whole tables to alter a column.
"""

import django.db.models.deletion
from django.db import migrations, models

_DROPPED = (
    ("reconciliation_discrepancy_resource_id_6d490f6a", "reconciliation_discrepancy", "resource_id"),
    ("reconciliation_discrepancy_run_id_043953fc", "reconciliation_discrepancy", "run_id"),
    ("reconciliation_run_resource_id_a02648f8", "reconciliation_run", "resource_id"),
    ("reconciliation_spooledrow_run_id_047de03d", "reconciliation_spooledrow", "run_id"),
    ("reconciliation_suspect_run_id_d10c21ac", "reconciliation_suspect", "run_id"),
)


class Migration(migrations.Migration):

    dependencies = [
        ('reconciliation', '0006_forbidden_cause'),
        ('remote', '0002_prefixed_indexes'),
    ]

    operations = [
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.AlterField(
                    model_name='discrepancy',
                    name='resource',
                    field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='discrepancies', to='remote.resource'),
                ),
                migrations.AlterField(
                    model_name='discrepancy',
                    name='run',
                    field=models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='discrepancies', to='reconciliation.run'),
                ),
                migrations.AlterField(
                    model_name='run',
                    name='resource',
                    field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='runs', to='remote.resource'),
                ),
                migrations.AlterField(
                    model_name='spooledrow',
                    name='run',
                    field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='spooled', to='reconciliation.run'),
                ),
                migrations.AlterField(
                    model_name='suspect',
                    name='run',
                    field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='suspects', to='reconciliation.run'),
                ),
            ],
            database_operations=[
                migrations.RunSQL(f"DROP INDEX IF EXISTS {name}", f"CREATE INDEX {name} ON {table} ({column})")
                for name, table, column in _DROPPED
            ],
        ),
    ]
