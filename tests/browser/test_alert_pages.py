"""The pages about alerts in a real browser: nothing refused, nothing too wide, no serious finding of axe."""

from collections.abc import Callable
from typing import Any

import pytest
from django.urls import reverse
from django.utils import timezone

from syncportal.ops import duties
from syncportal.ops.alerts import channels, evaluate
from syncportal.ops.alerts.models import Alert, AlertRule, Channel, Delivery
from syncportal.ops.heartbeat import Beat, beat
from syncportal.remote.models import Gate
from syncportal.sync.events import Actor
from tests.admin.conftest import HOSTILE, World, loopback_is_allowed, master, running_master, world
from tests.browser.conftest import DESKTOP, PHONE, Window

__all__ = ["loopback_is_allowed", "master", "running_master", "world"]
pytestmark = pytest.mark.browser


@pytest.mark.parametrize(("size", "theme"), [(DESKTOP, "light"), (PHONE, "dark")])
def test_a_remote_that_is_down_is_understood_taken_on_and_over(
    world: World, window: Callable[..., Window], settings: Any, size: dict[str, int], theme: str
) -> None:
    settings.OPERATIONS_EMAIL = ["ops@example.org"]
    now, words = timezone.now(), f"3 calls in a row failed. {HOSTILE[0]} {'long' * 60}"
    beat(Beat("host", 1, "running"), now=now)
    gate = {"breaker": "open", "opened_at": now, "open_until": now, "last_error": words}
    Gate.objects.update_or_create(remote=world.resource.remote, defaults=gate)
    evaluate.evaluate(now)
    channels.store(None, channels.Wanted(name="Night", via="email", target="night@example.org"), actor=None)
    here = window(world.people["anna"], size=size, theme=theme)
    here.open(reverse("admin:index"))
    assert here.too_wide() <= 0, "the dashboard, with the words of a remote that is down"
    page = here.open(reverse("admin:ops_alert_changelist"))
    page.get_by_role("link", name=f"Remote is down: {world.resource.remote}").click()
    page.get_by_text("What the system does").wait_for()
    page.get_by_label("Say that you are on it").fill("Calling the provider")
    page.get_by_role("button", name="Acknowledge").click()
    page.get_by_text("It is yours.").wait_for()
    Gate.objects.update(breaker="closed", opened_at=None, open_until=None)
    evaluate.evaluate(now)
    page.reload()
    page.get_by_text("It is over.").first.wait_for()
    page.get_by_text("Next notice:").wait_for()
    alert, delivery = Alert.objects.get(kind="breaker_open"), Delivery.objects.get()
    duties.pause("retention", reason=words, actor=Actor("user", None, "anna"), now=now)
    found = {}
    for address in (
        reverse("admin:ops_alert_changelist") + "?state=all",
        reverse("admin:ops_alert_change", args=[alert.pk]),
        reverse("admin:ops_delivery_changelist"),
        reverse("admin:ops_delivery_change", args=[delivery.pk]),
        reverse("admin:ops_silence_changelist"),
        reverse("admin:ops_alertrule_changelist"),
        reverse("admin:ops_alertrule_add"),
        reverse("admin:ops_alertrule_change", args=[AlertRule.objects.get(kind="success_rate").pk]),
        reverse("admin:ops_channel_changelist"),
        reverse("admin:ops_channel_change", args=[Channel.objects.get(name="Night").pk]),
        reverse("admin:ops_digest"),
        reverse("admin:ops_duty_changelist"),
        reverse("admin:auth_user_changelist"),
    ):
        here.open(address)
        problems = [*here.violations(), *([f"{here.too_wide()} px too wide"] if here.too_wide() > 0 else [])]
        if problems:
            found[address] = problems
    assert found == {}
