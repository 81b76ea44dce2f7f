"""The list of events for a person: the rows they may see, found without reading everybody's."""

import pytest
from django.contrib.auth.models import AnonymousUser, Permission, User
from django.db import connection
from django.utils import timezone

from syncportal.sync import events
from syncportal.sync.events import Actor, Fact, Kind
from syncportal.sync.models import Event
from tests.factories import make_remote, make_resource
from tests.ops.test_metrics import a_record

pytestmark = [pytest.mark.django_db, pytest.mark.db]


def test_the_list_holds_what_one_may_see_and_is_found_from_ones_own_side() -> None:
    olga, otto = (User.objects.create_user(name) for name in ("olga", "otto"))
    ops = User.objects.create_user("ops")
    ops.user_permissions.add(Permission.objects.get(codename="operate_records"))
    resource = make_resource(make_remote("http://127.0.0.1:1"))
    mine, his, nobodys = (a_record(resource, owner=who)
                          for who in (olga, otto, None))  # fmt: skip
    acts = Actor("user", olga.pk, "olga")
    written = [
        Fact(Kind.SYNC_FAILED, mine.pk), Fact(Kind.SYNC_FAILED, his.pk), Fact(Kind.SYNC_FAILED, nobodys.pk),
        Fact(Kind.DUTY_PAUSED, actor=acts), Fact(Kind.RECORD_EDITED, mine.pk, actor=acts),
        Fact(Kind.RECORD_EDITED, his.pk, actor=acts), Fact(Kind.DUTY_RESUMED),
    ]  # fmt: skip
    Event.objects.all().delete()
    events.write(written, now=timezone.now())
    rows = list(Event.objects.order_by("pk"))
    expected = {olga: {0, 3, 4, 5}, otto: {1, 5}, ops: set(range(7)), AnonymousUser(): set()}
    for person, places in expected.items():
        listed = Event.objects.listed_for(person)
        assert set(listed) == set(Event.objects.visible_to(person)) == {rows[place] for place in places}
    if connection.vendor == "sqlite":
        plan = Event.objects.listed_for(olga).order_by("-id").explain()
        assert "SCAN sync_event" not in plan, plan
