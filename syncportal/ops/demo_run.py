"""The demo: a master, a web server and a worker on a database of their own, and some life.

Owns: the child processes and their order, the sample users and data. Guarantees: begins from nothing each time; every
child has ended when the block is left, however it is left; touches no other database. Does not: tell the story;
demo_story.py does.
"""

import contextlib
import fcntl
import http.client
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import IO, Self

from django.conf import settings
from django.contrib.auth.models import Group, User
from django.core.management import call_command

from syncportal.access.keys import ALL_SCOPES, create_key
from syncportal.access.roles import OPERATIONS, OWNERS
from syncportal.demo import DemoControl
from syncportal.demo import groups as demo_groups
from syncportal.kernel.clock import db_now
from syncportal.ops.demo_story import Story, wait_until
from syncportal.remote import configuration
from syncportal.remote.models import Resource
from syncportal.sync import operate, pull
from syncportal.sync.events import Actor
from syncportal.sync.models import Record

MASTER_PORT = 8900
ACCOUNTS, SHIFTS, OWNED = 300, 200, 40
START_S = 30.0
END_S = 30.0
WITHOUT_WORKER_S = 90.0  # long enough to see what pages and alerts say
QUICK_RETRIES_S = [2, 4, 8]  # for shifts, so that a dead letter is seen within half a minute
CONFIGURATION = Path(__file__).resolve().parent.parent / "demo" / "remotes.yaml"


class DemoFailed(Exception):
    """The demo cannot run; the message says why."""


def free_port(wanted: int) -> int:
    """Return the wanted port if nobody has it, else a free one."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return int(probe.getsockname()[1])
    raise DemoFailed("This machine has no free port.")


@dataclass(slots=True)
class Demo:
    """The running demo; leave the block and everything ends."""

    port: int | None
    say: Callable[[str], None]
    stopped: threading.Event
    children: list[tuple[str, subprocess.Popen[bytes]]] = field(default_factory=list)
    lock: IO[str] | None = None
    worker_missed_at: float | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *problem: object) -> None:
        """End the children, the last started first."""
        for _, child in reversed(self.children):
            if child.poll() is None:
                child.terminate()
        until = time.monotonic() + END_S
        for name, child in reversed(self.children):
            try:
                child.wait(max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                self.say(f"{name} did not end by itself and was killed.")
                child.kill()
                child.wait()
        if self.lock is not None:
            self.lock.close()

    def run(self, *, once: bool) -> None:
        """Set everything up and show life until stopped, or with `once` until the story is told."""
        self.port = self.port or free_port(8000)
        self._fresh_database()
        self.say("Preparing the database …")
        call_command("migrate", verbosity=0)
        password = secrets.token_urlsafe(9)
        people = _make_users(password)
        control = self._start_master()
        self._load(control)
        owned = Record.objects.filter(resource__slug="accounts").order_by("external_id").values_list("pk", flat=True)
        operate.assign(list(owned[:OWNED]), owner_id=people["olivia"].pk, actor=_actor(people["oscar"]))
        self._start_web()
        self._start_worker()
        if self.stopped.is_set():
            return
        self._tell(password, control)
        story = Story(control=control, editor=_actor(people["olivia"]), stopped=self.stopped)
        story.begin()
        self._send_groups(control, _key_of(people["oscar"]))
        if once:
            story.wait_until_told(self.say, alive=self._all_alive)
            return
        story.go_on(alive=self._keeps_running)

    def _fresh_database(self) -> None:
        path = Path(settings.DATABASES["default"]["NAME"])
        self.lock = path.with_name("demo.lock").open("w")
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise DemoFailed("A demo already runs here; end it first (Ctrl-C in its window).") from None
        for ending in ("", "-wal", "-shm"):
            path.with_name(path.name + ending).unlink(missing_ok=True)

    def _start(self, name: str, command: Sequence[str]) -> subprocess.Popen[bytes]:
        again = any(known == name for known, _ in self.children)
        with (settings.DATA_DIR / f"demo-{name}.log").open("ab" if again else "wb") as log:
            child = subprocess.Popen(  # noqa: S603 (our own commands)
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True, cwd=settings.BASE_DIR
            )
        self.children.append((name, child))
        return child

    def _start_master(self) -> DemoControl:
        port = free_port(MASTER_PORT)
        given = ["--port", str(port), "--accounts", str(ACCOUNTS), "--shifts", str(SHIFTS), "--latency-ms", "30"]
        self._start("master", [sys.executable, "-m", "syncportal.demo", *given])
        self._wait_for("master", port, "/_demo/faults")
        return DemoControl(f"http://127.0.0.1:{port}")

    def _start_web(self) -> None:
        bind = f"127.0.0.1:{self.port}"
        command = [sys.executable, "-m", "gunicorn", "-k", "asgi", "syncportal.asgi:application", "-b", bind]
        self._start("web", [*command, "--graceful-timeout", "5", "--no-control-socket"])
        self._wait_for("web", self.port or 0, "/healthz")

    def _start_worker(self) -> None:
        self._start("worker", [sys.executable, "-m", "django", "runworker"])

    def _keeps_running(self) -> bool:
        """Tell whether master and web run; a worker that was killed is missed for a while, then followed by another."""
        ended = [name for name, child in self.children if child.poll() is not None]
        if ended != ["worker"]:
            return not ended
        if self.worker_missed_at is None:
            self.worker_missed_at = time.monotonic()
            self.say(
                f"The worker ended; the dashboard will say so. The demo starts another in {WITHOUT_WORKER_S:.0f} s."
            )
        elif time.monotonic() - self.worker_missed_at >= WITHOUT_WORKER_S:
            self.worker_missed_at = None
            self._start_worker()
            self.children = [(name, child) for name, child in self.children if child.poll() is None]
            self.say("Another worker was started.")
        return True

    def _wait_for(self, name: str, port: int, path: str) -> None:
        def answers() -> bool:
            if not self._all_alive():
                raise DemoFailed(f"The {name} ended at once; see {settings.DATA_DIR}/demo-{name}.log.")
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
            try:
                connection.request("GET", path)
                return connection.getresponse().status == 200
            except (OSError, http.client.HTTPException):
                return False
            finally:
                connection.close()

        if not wait_until(answers, seconds=START_S, stopped=self.stopped) and not self.stopped.is_set():
            raise DemoFailed(f"The {name} does not answer; see {settings.DATA_DIR}/demo-{name}.log.")

    def _all_alive(self) -> bool:
        return all(child.poll() is None for _, child in self.children)

    def _load(self, control: DemoControl) -> None:
        document = configuration.parse(CONFIGURATION.read_text("utf-8"), filename=CONFIGURATION.name)
        for remote in document["remotes"]:
            remote["base_url"] = f"{control.url}/api"
            for resource in remote["resources"]:
                if resource["slug"] == "shifts":
                    resource["policy"]["retry"]["delays_s"] = QUICK_RETRIES_S
        configuration.apply(configuration.plan(document), reason="demo")
        for resource in Resource.objects.select_related("remote"):
            done = pull.run(pull.start(resource).pk)
            self.say(f"Pulled {done.seen} {resource.slug} from the master.")

    def _send_groups(self, control: DemoControl, key: str) -> None:
        """Send one grouped update that succeeds, one that is undone, and one that the worker has to heal."""
        portal = demo_groups.Portal(f"http://127.0.0.1:{self.port}", key)
        try:
            for name in ("succeeds", "undone", "healed"):
                self.say(f"Grouped update {name}: {demo_groups.told(demo_groups.CASES[name](portal, control))}")
        except demo_groups.PortalError as problem:
            raise DemoFailed(f"A grouped update was refused: {problem}") from problem
        elsewhere = "" if control.url.endswith(f":{MASTER_PORT}") else f" --master {control.url}"
        self.say(
            f"More groups:  {_python()} -m syncportal.demo.groups --url {portal.url}{elsewhere} --key {key} "
            "[succeeds|undone|healed|stuck]\n"
        )

    def _tell(self, password: str, control: DemoControl) -> None:
        elsewhere = "" if control.url.endswith(f":{MASTER_PORT}") else f" --url {control.url}"
        self.say(
            f"\nSyncPortal:   http://127.0.0.1:{self.port}/\n"
            f"  log in as   admin, oscar (operations) or olivia (owns {OWNED} accounts)\n"
            f"  password    {password}\n"
            f"Demo master:  {control.url}/_demo/   (its switchboard)\n"
            f"Break it:     {_python()} -m syncportal.demo fault storm-503{elsewhere}\n"
            f"Mend it:      {_python()} -m syncportal.demo fault off{elsewhere}\n"
            f"Logs:         {settings.DATA_DIR}/demo-*.log\n"
            "Ctrl-C ends everything.\n"
        )


def _python() -> str:
    """Return how to call this Python from the project's folder."""
    with contextlib.suppress(ValueError):
        return str(Path(sys.executable).relative_to(settings.BASE_DIR))
    return sys.executable


def _make_users(password: str) -> dict[str, User]:
    admin = User.objects.create_superuser("admin", "admin@example.org", password)
    made = {"admin": admin}
    for name, role in (("oscar", OPERATIONS), ("olivia", OWNERS)):
        made[name] = User.objects.create_user(name, f"{name}@example.org", password, is_staff=True)
        made[name].groups.add(Group.objects.get(name=role))
    return made


def _key_of(user: User) -> str:
    now = db_now()
    return create_key(user, name="demo", scopes=ALL_SCOPES, expires_at=now + timedelta(days=7), now=now)


def _actor(user: User) -> Actor:
    return Actor("user", user_id=user.pk, label=user.get_username())
