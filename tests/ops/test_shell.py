"""The shell: every page carries the headers, the navigation and the theme."""

import re
from pathlib import Path

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import Group, Permission, User
from django.template.loader import get_template
from django.test import Client
from django.urls import reverse

from syncportal.access.roles import OWNERS, ROLES, VIEWERS, make_roles
from syncportal.ops.navigation import ShownEntry, ShownSection

ROOT = Path(__file__).resolve().parents[2]
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
PAGES = ["admin:index", "admin:login", "admin:password_change", "admin:auth_user_changelist", "admin:auth_user_add"]

pytestmark = pytest.mark.django_db


@pytest.fixture
def operator(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("olga", password="x"))
    return client


def directives(policy: str) -> set[str]:
    return {part.strip() for part in policy.split(";") if part.strip()}


@pytest.mark.parametrize("page", PAGES)
def test_every_page_is_served_with_the_strict_headers(operator: Client, page: str) -> None:
    if page == "admin:login":
        operator.logout()
    answer = operator.get(reverse(page))
    assert answer.status_code == 200
    assert directives(answer["Content-Security-Policy"]) == directives(POLICY)
    assert answer["X-Frame-Options"] == "DENY"
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Referrer-Policy"] == "same-origin"
    assert re.fullmatch(r"[0-9a-f]{32}", answer["X-Request-ID"])
    assert "camera=()" in answer["Permissions-Policy"]


@pytest.mark.parametrize("page", PAGES)
def test_no_page_needs_inline_code(operator: Client, page: str) -> None:
    text = operator.get(reverse(page), follow=True).content.decode()
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]*\bsrc=)(?![^>]*application/json)", text)
    assert "syncportal/theme.css" in text


def test_an_id_that_is_harmless_is_taken_over_and_any_other_replaced(client: Client) -> None:
    login = reverse("admin:login")
    assert client.get(login, headers={"X-Request-ID": "trace-42"})["X-Request-ID"] == "trace-42"
    assert client.get(login, headers={"X-Request-ID": "a\nb <script>"})["X-Request-ID"] != "a\nb <script>"


def test_the_log_carries_the_id_of_the_answer(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        client.get(reverse("admin:login"), headers={"X-Request-ID": "trace-43"})
    finished = [record.msg for record in caplog.records if "request_finished" in str(record.msg)]
    assert [line["request_id"] for line in finished] == ["trace-43"]


@pytest.mark.parametrize("template", sorted(path.name for path in (ROOT / "templates").glob("*.html")))
def test_every_error_page_renders_without_a_user(template: str) -> None:
    text = get_template(template).render({"request_id": "r-1"})
    assert "r-1" in text
    assert f'<a class="btn btn--primary" href="{reverse("admin:index")}">' in text


def test_large_numbers_in_the_navigation_are_told_in_thousands() -> None:
    entry = ShownEntry(label="Alerts", icon="bell", url="/", current=False, count=12_345, attention=True)
    shown = {"navigation": [ShownSection("Operations", (entry,))], "where": "side"}
    assert ">12,345<" in get_template("shell/_nav.html").render(shown)


def test_every_template_compiles() -> None:
    folder = ROOT / "templates"
    for path in folder.rglob("*.html"):
        get_template(path.relative_to(folder).as_posix())


def test_a_page_that_does_not_exist_answers_in_the_theme(operator: Client) -> None:
    answer = operator.get("/admin/nowhere/")
    assert answer.status_code == 404
    assert "There is nothing here" in answer.content.decode()
    assert answer["X-Request-ID"] in answer.content.decode()


def test_a_form_without_its_token_answers_in_the_theme(operator: Client) -> None:
    strict = Client(enforce_csrf_checks=True)
    answer = strict.post(reverse("admin:login"), {"username": "olga", "password": "x"})
    assert answer.status_code == 403
    assert "This form is too old" in answer.content.decode()


def test_the_navigation_shows_what_the_person_may_open(client: Client) -> None:
    anna = User.objects.create_user("anna", is_staff=True)
    client.force_login(anna)
    text = client.get(reverse("admin:index")).content.decode()
    assert "Start" in text
    assert reverse("admin:auth_user_changelist") not in text
    anna.user_permissions.add(Permission.objects.get(codename="view_user"))
    assert reverse("admin:auth_user_changelist") in client.get(reverse("admin:index")).content.decode()


def test_the_current_page_is_marked(operator: Client) -> None:
    text = operator.get(reverse("admin:auth_user_changelist")).content.decode()
    assert re.search(r'href="/admin/auth/user/" aria-current="page"', text)


def test_tables_whose_rows_are_code_are_not_in_the_admin() -> None:
    registered = {model._meta.app_label for model in admin.site._registry}
    assert "django_q" not in registered
    assert apps.is_installed("django_q")


def test_a_role_cannot_be_given_permissions_on_tables_whose_rows_are_code(operator: Client) -> None:
    text = operator.get(reverse("admin:auth_group_add")).content.decode()
    offered = set(re.findall(r'name="permissions" value="(\d+)"', text))
    assert str(Permission.objects.get(codename="view_record").pk) in offered
    dangerous = Permission.objects.filter(content_type__app_label="django_q")
    assert dangerous
    assert offered & {str(permission.pk) for permission in dangerous} == set()


def test_the_start_page_answers_on_an_empty_database(operator: Client) -> None:
    assert "Three steps to the first synced record" in operator.get(reverse("admin:index")).content.decode()


def test_sign_in_is_throttled_per_user_and_address(client: Client) -> None:
    User.objects.create_superuser("olga", password="right")
    login = reverse("admin:login")
    for _ in range(5):
        answer = client.post(login, {"username": "olga", "password": "wrong"})
    assert answer.status_code == 429
    assert "Too many failed sign-ins" in answer.content.decode()
    assert client.post(login, {"username": "olga", "password": "right"}).status_code == 429
    assert client.post(login, {"username": "other", "password": "wrong"}).status_code == 200


def test_styles_are_served_without_being_collected_first(client: Client) -> None:
    answer = client.get("/static/syncportal/theme.css")
    assert answer.status_code == 200
    assert answer["Content-Type"].startswith("text/css")


def test_the_dark_colours_are_the_same_however_dark_was_chosen() -> None:
    text = (ROOT / "syncportal/static/syncportal/theme.css").read_text()
    by_system = re.search(r"prefers-color-scheme: dark\) \{\s*:root \{(.*?)\}", text, re.DOTALL)
    by_switch = re.search(r'^html\[data-theme="dark"\] \{(.*?)\}', text, re.DOTALL | re.MULTILINE)
    assert by_system and by_switch
    assert by_system[1].split() == by_switch[1].split()


def test_an_address_by_djangos_apps_shows_how_things_really_stand(operator: Client) -> None:
    answer = operator.get("/admin/auth/")
    assert answer.context["seen"].workers == ()
    assert "No worker is running" in answer.content.decode()
    assert "Everything is in order" not in answer.content.decode()


def test_people_are_listed_with_the_roles_that_give_them_their_rights(operator: Client) -> None:
    make_roles()
    User.objects.create_user("anna").groups.add(*Group.objects.filter(name__in=[VIEWERS, OWNERS]))
    text = operator.get(reverse("admin:auth_user_changelist")).content.decode()
    assert f"{OWNERS}, {VIEWERS}" in text
    assert "<h1>Roles</h1>" in operator.get(reverse("admin:auth_group_changelist")).content.decode()


def test_a_role_offers_every_permission_that_a_page_asks_for_and_no_other(operator: Client) -> None:
    offered = operator.get(reverse("admin:auth_group_add")).context["adminform"].form.fields["permissions"].queryset
    names = {f"{row.content_type.app_label}.{row.codename}" for row in offered}
    assert names == {name for wanted in ROLES.values() for name in wanted}


def test_pages_of_django_lead_on(operator: Client) -> None:
    anna = User.objects.create_user("anna")
    deleting = operator.get(reverse("admin:auth_user_delete", args=[anna.pk])).content.decode()
    assert "better switched off than deleted" in deleting
    assert f'href="{reverse("admin:auth_user_change", args=[anna.pk])}"' in deleting
    assert "Go to the start page" in operator.get(reverse("admin:password_change_done")).content.decode()
