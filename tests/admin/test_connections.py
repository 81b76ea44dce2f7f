"""Remotes and resources: forms, credentials, buttons, pull, probe, history."""

import json
import re
from html import unescape

from django.urls import reverse

from syncportal.kernel.clock import db_now
from syncportal.remote import configuration
from syncportal.remote.models import Gate, Remote, Resource
from syncportal.sync import pull
from syncportal.sync.models import Pull, Record
from tests.admin.conftest import World

SECRET = "user:canary-4711-secret"


def fields(text: str) -> dict[str, str]:
    data = {}
    for tag in re.findall(r"<input[^>]*>", text[text.index('name="seen"') - 40 :]):
        name, value = re.search(r'name="([^"]*)"', tag), re.search(r'value="([^"]*)"', tag)
        if name and ("checkbox" not in tag or " checked" in tag):
            data[name[1]] = unescape(value[1]) if value else "on" if "checkbox" in tag else ""
    for name, body in re.findall(r'<textarea name="([^"]*)"[^>]*>(.*?)</textarea>', text, re.S):
        data[name] = unescape(body).removeprefix("\n")
    for name, body in re.findall(r'<select name="([^"]*)"[^>]*>(.*?)</select>', text, re.S):
        chosen = re.search(r'<option value="([^"]*)"[^>]* selected', body)
        data[name] = chosen[1] if chosen else ""
    return data


def remote_page(world: World) -> str:
    return reverse("admin:remote_remote_change", args=[world.resource.remote_id])


def resource_page(world: World) -> str:
    return reverse("admin:remote_resource_change", args=[world.resource.pk])


def form_of(world: World, url: str) -> dict[str, str]:
    return fields(world.client("anna").get(url).content.decode())


def test_an_untouched_form_changes_no_configuration(world: World) -> None:
    for url, row in ((remote_page(world), world.resource.remote), (resource_page(world), world.resource)):
        before = row.config
        answer = world.client("anna").post(url, form_of(world, url), follow=True)
        assert "Saved." in answer.content.decode()
        row.refresh_from_db()
        assert row.config == before


def test_a_stored_credential_is_written_once_and_never_shown(world: World) -> None:
    client, url, remote = world.client("anna"), remote_page(world), world.resource.remote
    data = form_of(world, url) | {"auth_kind": "basic", "source": "stored"}
    assert "none is stored yet" in client.post(url, data).content.decode()
    client.post(url, data | {"secret": SECRET})
    remote.refresh_from_db()
    assert remote.secret == SECRET and remote.config["auth"] == {"kind": "basic", "credential": "stored"}
    client.post(url, form_of(world, url) | {"name": "Renamed"})
    remote.refresh_from_db()
    assert (remote.secret, remote.name) == (SECRET, "Renamed")
    for page in (url, reverse("admin:remote_remote_history", args=[remote.pk]), "/admin/remote/remote/"):
        assert "canary" not in client.get(page).content.decode()
    refused = client.post(url, form_of(world, url) | {"secret": SECRET, "base_url": "ftp://x"})
    assert refused.status_code == 422 and "canary" not in refused.content.decode()
    client.post(url, form_of(world, url) | {"auth_kind": "none", "source": ""})
    remote.refresh_from_db()
    assert remote.secret == ""


def test_a_credential_from_the_environment(world: World) -> None:
    url, remote = remote_page(world), world.resource.remote
    data = form_of(world, url) | {"auth_kind": "basic", "source": "env"}
    assert "Name the variable" in world.client("anna").post(url, data).content.decode()
    world.client("anna").post(url, data | {"env_name": "OPS_CREDENTIAL"})
    remote.refresh_from_db()
    assert remote.config["auth"] == {"kind": "basic", "credential": "env:OPS_CREDENTIAL"}
    assert form_of(world, url)["env_name"] == "OPS_CREDENTIAL"


def test_problems_of_the_editor_name_their_place_and_keep_the_input(world: World) -> None:
    url = resource_page(world)
    config = json.loads(form_of(world, url)["rest"])
    config["lst"] = config.pop("list")
    config["schema"]["properties"]["name"]["type"] = "strin"
    answer = world.client("anna").post(url, form_of(world, url) | {"rest": json.dumps(config)})
    errors = " ".join(answer.context["form"].errors["rest"])
    assert answer.status_code == 422
    assert "/lst" in errors and "list" in errors and "/schema/properties/name/type" in errors
    assert "strin" in fields(answer.content.decode())["rest"]
    assert "list" in Resource.objects.get(pk=world.resource.pk).config
    broken = world.client("anna").post(url, form_of(world, url) | {"rest": "{"})
    assert broken.status_code == 422 and broken.context["form"].errors["rest"]


def test_a_field_outside_its_limits_is_named_at_the_field(world: World) -> None:
    url = remote_page(world)
    answer = world.client("anna").post(url, form_of(world, url) | {"concurrency": "0", "base_url": "http://u:p@h/"})
    assert set(answer.context["form"].errors) == {"concurrency", "base_url"}


def test_two_administrators_do_not_overwrite_each_other(world: World) -> None:
    url, first = remote_page(world), form_of(world, remote_page(world))
    world.client("anna").post(url, first | {"name": "One"})
    answer = world.client("anna").post(url, first | {"name": "Two"})
    assert answer.status_code == 409 and "Somebody else saved" in answer.content.decode()
    assert Remote.objects.get(pk=world.resource.remote_id).name == "One"


def test_connecting_a_remote_and_a_resource(world: World) -> None:
    client = world.client("anna")
    data = {"slug": "new-one", "name": "New", "base_url": world.master.api_url, "auth_kind": "none", "rest": ""}
    assert client.post("/admin/remote/remote/add/", data | {"slug": "Not A Slug"}).status_code == 422
    assert client.post("/admin/remote/remote/add/", data).status_code == 302
    assert "already is a remote" in client.post("/admin/remote/remote/add/", data).content.decode()
    remote = Remote.objects.get(slug="new-one")
    config = dict(world.resource.config)
    given = {"remote": remote.pk, "slug": "accounts-two", "delays": "1, 2.5", "conflict": "remote_wins",
             "merge_disjoint": "on", "rest": json.dumps(config)}  # fmt: skip
    assert client.post("/admin/remote/resource/add/", given | {"delays": "x"}).status_code == 422
    assert client.post("/admin/remote/resource/add/", given).status_code == 302
    made = Resource.objects.get(slug="accounts-two")
    assert made.config["policy"] == {"retry": {"delays_s": [1, 2.5]}, "conflict": "remote_wins"}


def test_the_connection_is_tested_and_the_outcome_kept(world: World) -> None:
    url = reverse("admin:remote_remote_do", args=[world.resource.remote_id, "test"])
    text = world.client("ops").post(url, follow=True).content.decode()
    assert "ONLINE after" in text and "Online" in text
    world.master.faults.add("status", status=401)
    text = world.client("ops").post(url, follow=True).content.decode()
    assert "AUTH after" in text and Gate.objects.get(pk=world.resource.remote_id).last_check == "AUTH"


def test_pause_and_resume(world: World) -> None:
    def press(verb: str, **data: str) -> str:
        url = reverse("admin:remote_remote_do", args=[world.resource.remote_id, verb])
        return world.client("ops").post(url, data, follow=True).content.decode()

    assert "Paused. Edits are kept" in press("pause", detail="Maintenance <b>now</b>")
    assert "Maintenance &lt;b&gt;now&lt;/b&gt;" in world.client("ops").get(remote_page(world)).content.decode()
    assert "It is paused already." in press("pause")
    assert "Resumed." in press("resume")
    assert "It was not paused." in press("resume")


def test_a_pull_runs_in_the_background_and_shows_its_counts(world: World) -> None:
    url = reverse("admin:remote_resource_do", args=[world.resource.pk, "pull"])
    client = world.client("ops")
    assert "runs in the background" in client.post(url, follow=True).content.decode()
    page = client.get(resource_page(world)).content.decode()
    assert "every 2s" in page and "A pull is running already." in page
    pull.run(Pull.objects.get().pk)
    done = client.get(reverse("admin:remote_resource_pull", args=[world.resource.pk])).content.decode()
    assert "every" not in done and "Done" in done
    assert Record.objects.filter(resource=world.resource).count() == 12


def test_a_pull_that_was_given_up_goes_on_when_somebody_asks(world: World) -> None:
    now, address = db_now(), reverse("admin:remote_resource_do", args=[world.resource.pk, "pull-on"])
    client, problem = world.client("ops"), "Given up: the next page failed 9 times in a row. <b>500</b>"
    assert "no pull of this resource waits" in client.post(address, follow=True).content.decode()
    Pull.objects.create(resource=world.resource, state="failed", cursor="5", problem=problem, started_at=now)
    page = client.get(resource_page(world)).content.decode()
    assert "Given up</span>" in page and "&lt;b&gt;500" in page and address in page
    assert address not in world.client("vera").get(resource_page(world)).content.decode()
    assert world.client("vera").post(address).status_code == 403
    assert "goes on in the background" in client.post(address, follow=True).content.decode()
    assert (Pull.objects.get().state, Pull.objects.get().problem) == ("running", "")
    assert address not in client.get(resource_page(world)).content.decode()


def test_a_probe_reads_and_writes_only_with_consent(world: World) -> None:
    client, url = world.client("ops"), resource_page(world)
    client.post(reverse("admin:remote_resource_do", args=[world.resource.pk, "probe"]))
    assert world.master.writes() == []
    assert "Order while paging" in client.get(url).content.decode()
    write = reverse("admin:remote_resource_do", args=[world.resource.pk, "probe-write"])
    assert "tick the box" in client.post(write, follow=True).content.decode()
    assert world.master.writes() == []
    text = client.post(write, {"consent": "yes"}, follow=True).content.decode()
    assert world.master.writes() and "Stale writes" in text and "refused" in text


def test_what_an_undo_met_stands_on_the_card_before_and_after_a_probe(world: World) -> None:
    promise = "Only the settle window <b>was</b> waited for."
    configuration.note_late_writes(world.resource, promise=promise, now=db_now())
    text = world.client("anna").get(resource_page(world)).content.decode()
    assert "Only the settle window &lt;b&gt;was&lt;/b&gt; waited for." in text
    assert "Not probed yet." in text
    world.client("anna").post(reverse("admin:remote_resource_do", args=[world.resource.pk, "probe"]))
    text = world.client("anna").get(resource_page(world)).content.decode()
    assert "Only the settle window" in text
    assert "Not probed yet." not in text
    world.resource.refresh_from_db()
    seen_at = world.resource.guarantees["late_writes"]["seen_at"]
    configuration.note_late_writes(world.resource, promise=promise, now=db_now())
    world.resource.refresh_from_db()
    assert world.resource.guarantees["late_writes"]["seen_at"] == seen_at


def test_a_probe_of_a_dead_remote_says_so(world: World) -> None:
    Remote.objects.filter(pk=world.resource.remote_id).update(base_url="http://127.0.0.1:1/api")
    url = reverse("admin:remote_resource_do", args=[world.resource.pk, "probe"])
    assert "could not finish" in world.client("ops").post(url, follow=True).content.decode()


def test_the_history_says_who_changed_what(world: World) -> None:
    client, url = world.client("anna"), remote_page(world)
    client.post(url, form_of(world, url) | {"name": "First"})
    client.post(url, form_of(world, url) | {"concurrency": "7"})
    text = client.get(reverse("admin:remote_remote_history", args=[world.resource.remote_id])).content.decode()
    assert "/config/limits/concurrency" in text and "anna" in text
