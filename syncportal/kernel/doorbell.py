"""The doorbell: wakes a worker, carries no work. The only caller of django-q2's `async_task`.

A lost, doubled or late ring changes latency and nothing else: the rows are the queue. With the ORM
broker on the same database a ring inside a transaction is part of its commit.
"""

from django.conf import settings
from django.utils import timezone
from django_q.models import OrmQ
from django_q.tasks import async_task

MAX_WAITING = 2


def waiting() -> int:
    """Return how many rings nobody has answered yet, counting no further than needed."""
    due = OrmQ.objects.filter(key=settings.Q_CLUSTER["name"], lock__lte=timezone.now())
    return due.order_by()[: MAX_WAITING + 1].count()


def ring(task: str, *args: int | str) -> bool:
    """Ask a worker to run the dotted-path `task` soon; return False when enough rings wait already."""
    if waiting() >= MAX_WAITING:
        return False
    async_task(task, *args, task_name=task.rsplit(".", 1)[-1])
    return True
