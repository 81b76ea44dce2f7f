"""`check_alerts`: a timer outside finds that no worker runs, and tells people, without one."""

import json
from io import StringIO

import pytest
from django.core import mail
from django.core.management import CommandError, call_command
from django.utils import timezone

from syncportal.ops import heartbeat
from syncportal.ops.alerts.models import AlertRule
from syncportal.ops.heartbeat import Beat
from syncportal.ops.models import WorkerState
from tests.ops.alerts.watched import Watched


def test_without_a_worker_people_are_told(watched: Watched) -> None:
    out = StringIO()
    with pytest.raises(CommandError) as ended:
        call_command("check_alerts", "--json", stdout=out)
    assert ended.value.returncode == 1
    assert [row["rule"] for row in json.loads(out.getvalue())["open"]] == ["no_worker"]
    assert [message.subject for message in mail.outbox] == ["[SyncPortal] Critical: No worker is running"]


def test_it_makes_the_rules_and_is_content_when_all_is_well(watched: Watched) -> None:
    AlertRule.objects.all().delete()
    heartbeat.beat(Beat("host", 1, WorkerState.RUNNING), now=timezone.now())
    out = StringIO()
    call_command("check_alerts", stdout=out)
    assert out.getvalue().startswith("No alert is open.")
    assert AlertRule.objects.count() == 14
