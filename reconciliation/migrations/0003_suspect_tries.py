from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("reconciliation", "0002_byte_order")]

    operations = [
        migrations.AddField(
            model_name="suspect", name="tries", field=models.PositiveSmallIntegerField(default=0),
        ),
    ]
