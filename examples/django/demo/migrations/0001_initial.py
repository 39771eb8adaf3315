"""The table of entries."""

from django.db import migrations, models


class Migration(migrations.Migration):
    """Make the table of entries."""

    initial = True
    dependencies = ()
    operations = (
        migrations.CreateModel(
            name="Entry",
            fields=[
                ("id", models.BigAutoField(primary_key=True, auto_created=True, serialize=False, verbose_name="ID")),
                ("title", models.CharField(max_length=200)),
                ("filename", models.TextField()),
                ("size", models.BigIntegerField()),
                ("sha256", models.CharField(max_length=64)),
                ("file", models.FileField(upload_to="")),
                ("created", models.DateTimeField(auto_now_add=True)),
            ],
            options={"ordering": ("-pk",)},
        ),
    )
