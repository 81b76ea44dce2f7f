"""Wrong API keys are counted for each address in the database, and answered with 429 after a few."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from rest_framework.test import APIClient

from syncportal.access import throttle
from syncportal.access.keys import Scope, create_key
from syncportal.access.models import WrongKeys
from syncportal.access.throttle import ALLOWED, WINDOW, wait_s

pytestmark = pytest.mark.django_db
WRONG = "sp_00000000_" + "A" * 43


def ask(key: str, address: str = "192.0.2.7"):
    client = APIClient(REMOTE_ADDR=address)
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {key}")
    return client.get("/api/v1/records/")


def test_after_ten_wrong_keys_the_address_has_to_wait() -> None:
    assert [ask(WRONG if n % 2 else "nonsense").status_code for n in range(ALLOWED)] == [401] * ALLOWED
    answer = ask(WRONG)
    assert (answer.status_code, answer["Content-Type"]) == (429, "application/problem+json")
    assert answer.json()["code"] == "too_many_wrong_keys" and "seconds" in answer.json()["detail"]
    assert 0 < int(answer["Retry-After"]) <= WINDOW.total_seconds()
    assert ask(WRONG, "192.0.2.8").status_code == 401


def test_a_good_key_works_from_an_address_that_has_to_wait() -> None:
    user = User.objects.create_user("pat")
    key = create_key(user, name="k", scopes=[Scope.READ], expires_at=None, now=timezone.now())
    for _ in range(ALLOWED + 1):
        ask(WRONG)
    assert (ask(WRONG).status_code, ask(key).status_code) == (429, 200)


def test_the_wait_ends_and_counting_begins_again() -> None:
    now = timezone.now()
    assert [wait_s("192.0.2.7", now=now) for _ in range(ALLOWED)] == [0] * ALLOWED
    assert wait_s("192.0.2.7", now=now + timedelta(minutes=5)) == 600
    assert wait_s("192.0.2.7", now=now + timedelta(minutes=5)) == 600, "waiting is not prolonged by asking"
    assert wait_s("192.0.2.7", now=now + WINDOW) == 0
    assert WrongKeys.objects.get().count == 1


def test_a_clock_that_goes_back_locks_nobody_out() -> None:
    now = timezone.now()
    for _ in range(ALLOWED + 1):
        wait_s("192.0.2.7", now=now)
    assert wait_s("192.0.2.7", now=now - timedelta(hours=1)) == 0


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:192.0.2.7", "192.0.2.7", True),
        (None, "not an address", True),
    ],
)
def test_the_addresses_of_one_subscriber_are_counted_together(
    one: str | None, other: str | None, together: bool
) -> None:
    now = timezone.now()
    for _ in range(ALLOWED):
        wait_s(one, now=now)
    assert bool(wait_s(other, now=now)) is together


def test_old_counts_are_removed() -> None:
    now = timezone.now()
    wait_s("192.0.2.7", now=now - WINDOW)
    wait_s("192.0.2.8", now=now)
    assert throttle.forget_old(now=now) == 1
    assert WrongKeys.objects.get().source == "192.0.2.8"
