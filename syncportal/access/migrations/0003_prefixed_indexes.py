"""Drop the indexes of relations that another index begins with: each write kept both.

Dropped by name, because SQLite would copy whole tables to alter a column.
"""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

_DROPPED = (
    ("access_storedanswer_user_id_a53c913b", "access_storedanswer", "user_id"),
)


class Migration(migrations.Migration):

    dependencies = [
        ('access', '0002_wrong_keys'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.AlterField(
                    model_name='storedanswer',
                    name='user',
                    field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to=settings.AUTH_USER_MODEL),
                ),
            ],
            database_operations=[
                migrations.RunSQL(f"DROP INDEX IF EXISTS {name}", f"CREATE INDEX {name} ON {table} ({column})")
                for name, table, column in _DROPPED
            ],
        ),
    ]
