"""Who sees which grouped updates and compensating tasks, and who may act on them: one place for API and admin.

Owns: the rules. Guarantees: a request belongs to the user who sent it; whoever sees all records sees all requests.
Does not: decide what is legal in a status; `operate.py` does.
"""

from django.db.models import QuerySet

from rollback.models import CompensatingTask, GroupedUpdate
from syncportal.sync import rights
from syncportal.sync.querysets import Person, sees_everything


def requests_of(user: Person) -> QuerySet[GroupedUpdate]:
    """Return the requests that the user may see: all for operations and viewers, else one's own."""
    rows = GroupedUpdate.objects.all()
    if sees_everything(user):
        return rows
    return rows.filter(user_id=user.pk) if user.is_authenticated else rows.none()


def tasks_of(user: Person) -> QuerySet[CompensatingTask]:
    """Return the compensating tasks of the requests that the user may see."""
    rows = CompensatingTask.objects.all()
    if sees_everything(user):
        return rows
    return rows.filter(step__group__request__user_id=user.pk) if user.is_authenticated else rows.none()


def may_send(user: Person) -> bool:
    """Tell whether the user may send grouped updates at all; whose records, the plan's check decides."""
    return user.has_perm("sync.change_record") or rights.operates(user)


def may_operate(user: Person) -> bool:
    """Tell whether the user may retry, force, close and send again."""
    return rights.operates(user)
