"""kill -9 around a delivery: whatever the instant, the message arrives."""

import signal
import subprocess
import sys
from datetime import timedelta

import pytest
from django.utils import timezone

from syncportal.ops.alerts import channels, evaluate, sending
from syncportal.ops.alerts.channels import Wanted
from syncportal.ops.alerts.models import Alert, AlertRule, Delivery
from syncportal.sync.models import Event
from tests.ops.alerts.receivers import web_hook
from tests.ops.alerts.watched import Watched

pytestmark = [pytest.mark.db, pytest.mark.kills]


@pytest.mark.parametrize(
    ("point", "before", "at_least"),
    [("evaluating", 0, 1), ("claimed", 0, 1), ("sent", 1, 2)],
)
def test_a_killed_worker_loses_no_notice(
    watched: Watched, child_environment: dict[str, str], point: str, before: int, at_least: int
) -> None:
    AlertRule.objects.exclude(kind="dead_letters").update(enabled=False)
    watched.dead_letter(watched.billing, detail="the one that counts")
    with web_hook() as hook:
        wanted = Wanted(name="hook", via="webhook", secret_url=hook.url, signing_key="a key of the tests")
        way = channels.store(None, wanted, actor=None)
        command = [sys.executable, "-m", "tests.ops.alerts.victim", point]
        died = subprocess.run(command, env=child_environment, capture_output=True, timeout=60, check=False)
        assert died.returncode == -signal.SIGKILL, died.stderr.decode()[-2000:]
        assert len(hook.arrived) == before
        later = timezone.now() + timedelta(minutes=2)
        evaluate.evaluate(later)
        sending.send_due(clock=lambda: later)
        assert len(hook.arrived) == at_least
    assert Alert.objects.filter(kind="dead_letters").count() == 1
    assert Event.objects.filter(kind="alert.opened", data__rule="dead_letters").count() == 1
    [delivery] = Delivery.objects.filter(channel=way, alert__kind="dead_letters")
    assert (delivery.state, "the one that counts" in delivery.body) == ("sent", True)
