"""Duplicate and invalid objects were said to be changed at the remote, which nothing in our history shows."""

from django.db import migrations, models

UNEXPLAINED = ["duplicate_key", "invalid_remote"]


def forget(apps, schema_editor):
    rows = apps.get_model("reconciliation", "Discrepancy").objects.using(schema_editor.connection.alias)
    rows.filter(kind__in=UNEXPLAINED).update(cause="unknown")


class Migration(migrations.Migration):
    dependencies = [("reconciliation", "0004_cancelled_runs")]

    operations = [
        migrations.AlterField(
            model_name="discrepancy",
            name="cause",
            field=models.CharField(
                choices=[
                    ("never_pushed", "Changed here and never pushed"), ("changed_remotely", "Changed at the remote"),
                    ("our_write_lost", "Our write was lost"),
                    ("normalised_by_remote", "The remote stored it differently"),
                    ("unknown", "Our history cannot tell"),
                ],
                max_length=20,
            ),
        ),
        migrations.RunPython(forget, migrations.RunPython.noop),
    ]
