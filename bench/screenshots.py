"""Takes pictures of the main pages with realistic data: `python -m bench.screenshots [FOLDER]`.

Starts a demo master, a web server and a database of its own in a temporary folder, fills it with agreement, edits,
failures, conflicts and 10,000 more rows, and stores pages at 1440 and 390 pixels, light and dark, empty and full.
"""

import logging
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

FOLDER = tempfile.mkdtemp(prefix="syncportal-shots-")
os.environ.update(
    DJANGO_SETTINGS_MODULE="syncportal.settings",
    DATA_DIR=FOLDER,
    DATABASE_URL=f"sqlite:///{FOLDER}/shots.sqlite3",
    REMOTE_ALLOWED_NETWORKS="127.0.0.0/8",
    LOG_FORMAT="console",
    DJANGO_ALLOW_ASYNC_UNSAFE="1",  # Playwright's loop runs in the thread that fills the tables
)

import django  # noqa: E402

django.setup()

from django.contrib.auth import get_user_model  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler  # noqa: E402
from django.test import Client  # noqa: E402
from django.utils import timezone  # noqa: E402
from playwright.sync_api import Browser, sync_playwright  # noqa: E402

from reconciliation import engine, runs  # noqa: E402
from reconciliation.models import Discrepancy  # noqa: E402
from syncportal.bulk import journal, work  # noqa: E402
from syncportal.demo import DemoMaster  # noqa: E402
from syncportal.demo.spec import accounts, shifts  # noqa: E402
from syncportal.ops import heartbeat  # noqa: E402
from syncportal.remote import configuration, connection  # noqa: E402
from syncportal.remote.models import Resource  # noqa: E402
from syncportal.sync import drain as draining  # noqa: E402
from syncportal.sync import local, pull, records, transitions  # noqa: E402
from syncportal.sync.events import Actor  # noqa: E402
from syncportal.sync.local import Edit  # noqa: E402
from syncportal.sync.models import Conflict, Record, SyncJob, SyncLog  # noqa: E402
from syncportal.sync.records import RecordState  # noqa: E402
from syncportal.sync.states import Intent  # noqa: E402
from syncportal.wsgi import application  # noqa: E402

WIDTHS = {"desktop": (1440, 900), "mobile": (390, 844)}
HOSTILE = '<script>alert("x")</script><img src=x onerror=alert(1)> "quoted" & long ' + "word" * 60


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def web() -> Iterator[str]:
    """Serve the application on a free port."""
    server = ThreadedWSGIServer(("127.0.0.1", 0), _Quiet)
    server.set_app(application)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def drain(*, later_s: float = 0) -> None:
    """Push what is due at a time that lies ahead."""
    at = timezone.now() + timedelta(seconds=later_s)
    draining.drain(clock=lambda: at, budget=draining.Budget(call_s=10, lease_s=90, task_s=None))


def configure(master: DemoMaster) -> None:
    """Load the demo's two remotes, pointed at this master."""
    text = Path("syncportal/demo/remotes.yaml").read_text(encoding="utf-8")
    text = text.replace("http://127.0.0.1:8900/api", master.api_url)
    configuration.apply(configuration.plan(configuration.parse(text)))


def fill(master: DemoMaster, people: dict[str, User]) -> None:
    """Pull, edit, fail, conflict."""
    actor = Actor("user", people["operator"].pk, "operator")
    for resource in Resource.objects.all():
        pull.run(pull.start(resource).pk)
        connection.test(resource.remote)
    rows = {row.external_id: row for row in Record.objects.all()}
    from syncportal.sync import operate

    operate.assign([rows[f"ACC-{i:04d}"].pk for i in range(1, 9)], owner_id=people["owner"].pk, actor=actor)
    for i in range(1, 6):
        local.save(Edit(rows[f"ACC-{i:04d}"].pk, {"city": "Bergen", "credit": 900 + i}), actor=actor)
    drain()
    for name, changes in {"ACC-0011": {"city": "Oslo", "credit": 410}, "ACC-0012": {"name": HOSTILE[:110]}}.items():
        mine = (
            {"city": "Bergen", "notes": "Call first."} if name == "ACC-0011" else {"name": "Our name", "tier": "gold"}
        )
        local.save(Edit(rows[name].pk, mine | {"credit": 300}), actor=actor)
        master.edit("accounts", name, changes | {"credit": 500})
    drain()
    master.faults.add_json({"kind": "status", "settings": {"status": 503}, "object_id": "ACC-0013", "phase": "write"})
    master.faults.add_json({"kind": "status", "settings": {"status": 422}, "object_id": "ACC-0014", "phase": "write"})
    master.faults.add_json({"kind": "status", "settings": {"status": 500}, "object_id": "ACC-0015", "phase": "write"})
    for name in ("ACC-0013", "ACC-0014", "ACC-0015"):
        local.save(Edit(rows[name].pk, {"notes": f"Changed. {HOSTILE}"}), actor=actor)
    drain()
    for seconds in (10, 60, 400):
        drain(later_s=seconds)
    local.save(Edit(rows["ACC-0016"].pk, {"city": "Tartu"}), actor=actor)
    heartbeat.beat(heartbeat.Beat("worker-1", 4711, "running", canary_age_s=2), now=timezone.now())


def compare(master: DemoMaster, user: User) -> dict[str, str]:
    """Compare both sides after edits outside, act on some in bulk, and return the pages that show it."""
    resource = Resource.objects.get(slug="shifts")
    policy = {"repair": dict.fromkeys(("version_drift", "data_mismatch"), "alert"), "lag_s": 0}
    Resource.objects.filter(pk=resource.pk).update(config={**resource.config, "policy": policy})
    resource.refresh_from_db()
    actor = Actor("user", user.pk, user.username)
    for number in range(1, 7):
        master.edit(
            "shifts", f"SH-{number:04d}", {"title": f"Moved by somebody else {HOSTILE}"[: 30 * number], "seats": 9}
        )
        run = runs.start(resource, actor=actor, dry_run=number == 6)
        while engine.run_slice(run.pk, seconds=10).goes_on:
            pass
    found = list(Discrepancy.objects.order_by("pk").values_list("pk", flat=True))
    failed = list(SyncJob.objects.filter(status__in=["DEAD_LETTER", "ERROR"]).values_list("pk", flat=True))
    made = {}
    for name, act, ids, ramp in (("draft", "discrepancies.take_remote", found, False),
                                 ("running", "discrepancies.take_remote", found, False),
                                 ("ramp", "records.requeue", failed, True)):  # fmt: skip
        made[name] = journal.prepare(
            journal.NewOperation(act, ids, user.pk, user.username, ramp=ramp), now=timezone.now()
        ).pk
        if name != "draft":
            work.begin(made[name], parameters={})
            work.run(made[name], seconds=5)
    return {
        "runs": "/admin/reconciliation/run/?resource=shifts",
        "discrepancies": "/admin/reconciliation/discrepancy/",
        "detail_run": f"/admin/reconciliation/run/{run.pk}/",
        "detail_discrepancy": f"/admin/reconciliation/discrepancy/{found[-1]}/",
        "bulk": "/admin/bulk/bulkoperation/",
        **{f"detail_bulk_{name}": f"/admin/bulk/bulkoperation/{pk}/" for name, pk in made.items()},
    }


def many(count: int) -> None:
    """Add rows in bulk, as a big installation has them."""
    resource, now = Resource.objects.get(slug="shifts"), timezone.now()
    states = []
    for i in range(count):
        data = {"code": f"X-{i:06d}", "title": f"Shift {i} of a large installation", "seats": i % 9}
        states.append(
            RecordState(
                id=0, resource_id=resource.pk, external_id=f"X-{i:06d}", data=data, base=data, version="1",
                revision=1, intent=Intent.UPDATE, owner_id=None, deleted_at=None, synced_at=now,
            )
        )  # fmt: skip
    ids = records.insert(states, now=now)
    transitions.insert([transitions.NewJob(pk, resource.remote_id, False, 4) for pk in ids], now=now)


def shoot(browser: Browser, url: str, user: User, pages: dict[str, str], folder: Path, state: str) -> None:
    """Store each page in both widths and themes; print what the browser complains about."""
    client = Client()
    client.force_login(user)
    session = client.cookies["sessionid"].value
    for width, (x, y) in WIDTHS.items():
        for theme in ("light", "dark"):
            context = browser.new_context(viewport={"width": x, "height": y}, color_scheme=theme)
            context.add_cookies([{"name": "sessionid", "value": session, "url": url}])
            page = context.new_page()
            page.on("console", lambda message: print("  console:", message.text[:200]))
            for name, path in pages.items():
                if theme == "dark" and width == "mobile" and "detail" not in name:
                    continue
                page.goto(url + path)
                wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
                if wide > 0:
                    print(f"  {name} at {x}: {wide} px too wide")
                page.screenshot(path=folder / f"{state}_{name}_{width}_{theme}.png", full_page=True)
            context.close()


def main() -> None:
    """Run it all."""
    logging.disable(logging.WARNING)
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "var/screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    call_command("migrate", verbosity=0)
    root = get_user_model().objects.create_superuser("root", "root@example.org", "x")
    people = {name: get_user_model().objects.create_user(name, is_staff=True) for name in ("operator", "owner")}
    lists = {"start": "/admin/", "records": "/admin/sync/record/", "conflicts": "/admin/sync/conflict/",
             "errors": "/admin/sync/errorgroup/",
             "log": "/admin/sync/synclog/", "events": "/admin/sync/event/", "remotes": "/admin/remote/remote/",
             "resources": "/admin/remote/resource/"}  # fmt: skip
    with DemoMaster((accounts(60), shifts(30))) as master, web() as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        shoot(browser, url, root, {**lists, "add": "/admin/remote/remote/add/"}, folder, "empty")
        configure(master)
        fill(master, people)
        rows = {row.external_id: row.pk for row in Record.objects.all()}
        first = Resource.objects.get(slug="accounts")
        failed = SyncLog.objects.filter(outcome="retry_later").first() or SyncLog.objects.first()
        assert failed is not None
        details = {
            "detail_record": f"/admin/sync/record/{rows['ACC-0001']}/change/",
            "detail_record_failed": f"/admin/sync/record/{rows['ACC-0013']}/change/",
            "detail_record_conflict": f"/admin/sync/record/{rows['ACC-0011']}/change/",
            "detail_shift": f"/admin/sync/record/{rows['SH-0001']}/change/",
            "detail_conflict": f"/admin/sync/conflict/{Conflict.objects.get(record=rows['ACC-0011']).pk}/",
            "detail_conflict_hostile": f"/admin/sync/conflict/{Conflict.objects.get(record=rows['ACC-0012']).pk}/",
            "detail_log": f"/admin/sync/synclog/{failed.pk}/",
            "detail_remote": f"/admin/remote/remote/{first.remote_id}/change/",
            "detail_resource": f"/admin/remote/resource/{first.pk}/change/",
            "detail_delete": f"/admin/sync/record/{rows['ACC-0001']}/delete/",
            "add_choose": "/admin/sync/record/add/",
            "add": "/admin/sync/record/add/?resource=shifts",
            "filtered": "/admin/sync/record/?status=stopped&resource=accounts",
            "nothing": "/admin/sync/record/?q=nothinglikethis",
        }
        details |= compare(master, root)
        shoot(browser, url, root, {**lists, **details}, folder, "full")
        many(10_000)
        shoot(browser, url, root, {"start": "/admin/", "records": "/admin/sync/record/"}, folder, "many")
        shoot(browser, url, people["owner"], {"start": "/admin/"}, folder, "stranger")
        browser.close()
    print(f"{len(list(folder.glob('*.png')))} pictures in {folder}")


if __name__ == "__main__":
    main()
