from django.db import migrations, models

STATES = ["running", "finished", "braked", "failed", "cancelled"]


class Migration(migrations.Migration):
    dependencies = [("reconciliation", "0003_suspect_tries")]

    operations = [
        migrations.AlterField(
            model_name="run",
            name="state",
            field=models.CharField(
                choices=[
                    ("running", "Running"), ("finished", "Finished"), ("braked", "Finished, brake held"),
                    ("failed", "Could not run"), ("cancelled", "Cancelled"),
                ],
                default="running", max_length=9,
            ),
        ),
        migrations.RemoveConstraint(model_name="run", name="run_state_known"),
        migrations.AddConstraint(
            model_name="run",
            constraint=models.CheckConstraint(condition=models.Q(state__in=STATES), name="run_state_known"),
        ),
    ]
