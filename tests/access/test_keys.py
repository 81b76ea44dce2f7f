"""API keys: shown once, hashed, scoped, expiring, revocable."""

import hashlib
from datetime import timedelta
from io import StringIO

import pytest
from django.contrib.auth.models import Group, User
from django.core.management import call_command
from django.core.management.base import CommandError
from django.utils import timezone
from rest_framework.test import APIClient

from syncportal.access.keys import ALL_SCOPES, KeyRefused, Scope, check_key, create_key, revoke
from syncportal.access.models import ApiKey
from syncportal.access.roles import ROLES, make_roles

pytestmark = pytest.mark.django_db


@pytest.fixture
def user() -> User:
    return User.objects.create_user("pat")


def new_key(user: User, **options: object) -> str:
    now = timezone.now()
    return create_key(user, **{"name": "k", "scopes": ALL_SCOPES, "expires_at": None, "now": now, **options})


def ask(key: str) -> object:
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {key}")
    return client.get("/api/v1/records/")


def test_only_a_digest_and_a_public_prefix_are_stored(user: User) -> None:
    key = new_key(user)
    row = ApiKey.objects.get()
    assert row.digest == hashlib.sha256(key.encode()).hexdigest()
    assert key.startswith(row.prefix + "_")
    secret = key.removeprefix(row.prefix + "_")
    assert len(secret) == 43  # 256 bits
    assert not any(secret in str(value) for value in ApiKey.objects.values_list().get())


def test_a_key_is_checked_and_its_use_noted_once_a_minute(user: User) -> None:
    key, now = new_key(user), timezone.now()
    assert check_key(key, now=now).user == user
    assert ApiKey.objects.get().last_used_at == now
    check_key(key, now=now + timedelta(seconds=30))
    assert ApiKey.objects.get().last_used_at == now
    check_key(key, now=now + timedelta(seconds=61))
    assert ApiKey.objects.get().last_used_at == now + timedelta(seconds=61)


def test_expired_revoked_and_unknown_keys_are_refused_and_stay_for_people_to_see(user: User) -> None:
    now = timezone.now()
    expired, revoked = new_key(user, expires_at=now), new_key(user)
    assert revoke(ApiKey.objects.get(expires_at=None).pk, now=now)
    assert not revoke(ApiKey.objects.get(expires_at=None).pk, now=now)
    for key in (expired, revoked, expired[:-1] + "A", "", "x" * 500, "sp_é"):
        with pytest.raises(KeyRefused):
            check_key(key, now=now)
    assert ApiKey.objects.count() == 2


def test_a_key_dies_with_its_person(user: User) -> None:
    key = new_key(user)
    assert ask(key).status_code == 200
    User.objects.update(is_active=False)
    answer = ask(key)
    assert (answer.status_code, answer.json()["code"]) == (401, "invalid_key")
    assert answer["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("header", ["Bearer", "Bearer a b", "Bearer \xe9", "Basic YTpi", "bearer nothing", ""])
def test_odd_headers_are_401(header: str) -> None:
    answer = APIClient().get("/api/v1/records/", HTTP_AUTHORIZATION=header)
    assert answer.status_code == 401
    assert answer["Content-Type"] == "application/problem+json"
    assert answer["WWW-Authenticate"].startswith("Bearer")


def test_scopes_limit_a_key(user: User) -> None:
    user.groups.add(Group.objects.get(name="Operations"))
    writes = APIClient()
    writes.credentials(HTTP_AUTHORIZATION=f"Bearer {new_key(user, scopes=[Scope.WRITE])}")
    answer = writes.get("/api/v1/records/")
    assert (answer.status_code, answer.json()["code"], answer.json()["requiredScope"]) == (403, "scope_missing", "read")
    reads = APIClient()
    reads.credentials(HTTP_AUTHORIZATION=f"Bearer {new_key(user, scopes=[Scope.READ])}")
    assert reads.get("/api/v1/records/").status_code == 200
    assert reads.post("/api/v1/records/", {}).json()["requiredScope"] == "write"


def command(*arguments: str) -> tuple[str, str]:
    out, err = StringIO(), StringIO()
    call_command("create_api_key", *arguments, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def test_the_command_prints_the_key_as_its_only_line(user: User) -> None:
    out, _ = command("pat", "--scope", "read,write", "--days", "9")
    assert out.count("\n") == 1
    assert ask(out.strip()).status_code == 200
    row = ApiKey.objects.get()
    assert row.scopes == ["read", "write"]
    assert timedelta(days=8) < row.expires_at - timezone.now() <= timedelta(days=9)


def test_the_command_gives_all_scopes_for_a_year_by_default(user: User) -> None:
    command("pat")
    row = ApiKey.objects.get()
    assert row.scopes == ["operate", "read", "write"]
    assert row.expires_at is not None
    command("pat", "--days", "0")
    assert ApiKey.objects.filter(expires_at=None).exists()


@pytest.mark.parametrize(
    "arguments", [("nobody",), ("pat", "--scope", "read,fly"), ("pat", "--scope", ""), ("pat", "--days", "-1")]
)
def test_the_command_refuses_nonsense(user: User, arguments: tuple[str, ...]) -> None:
    with pytest.raises(CommandError):
        command(*arguments)
    assert not ApiKey.objects.exists()


def test_the_roles_exist_with_their_permissions() -> None:
    for name, wanted in ROLES.items():
        rows = Group.objects.get(name=name).permissions.select_related("content_type")
        assert {f"{row.content_type.app_label}.{row.codename}" for row in rows} == set(wanted), name


def test_a_role_that_an_administrator_changed_is_left_alone() -> None:
    group = Group.objects.get(name="Viewers")
    group.permissions.remove(group.permissions.first())
    count = group.permissions.count()
    make_roles()
    assert group.permissions.count() == count
