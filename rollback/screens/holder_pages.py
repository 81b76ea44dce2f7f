"""Where people read about what holds a record: the page of its group or of its compensating task."""

from django.urls import reverse

from rollback.models import CompensatingTask


def address_of(holder: str) -> str:
    """Return the page of the group or task that a record's `held_by` names."""
    kind, _, name = holder.partition(":")
    if kind == "group":
        return reverse("admin:rollback_group_change", args=[int(name)])
    task_pk = CompensatingTask.objects.values_list("pk", flat=True).filter(task_id=name).first()
    return reverse("admin:rollback_compensatingtask_change", args=[task_pk]) if task_pk is not None else ""
