import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('remote', '0001_initial'),
        ('sync', '0003_rollup'),
    ]

    operations = [
        migrations.AddField(
            model_name='syncjob',
            name='resource',
            field=models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='remote.resource'),
        ),
        migrations.RunSQL(
            'UPDATE sync_syncjob SET resource_id = (SELECT resource_id FROM sync_record WHERE sync_record.id = sync_syncjob.record_id)',
            migrations.RunSQL.noop,
        ),
    ]
