"""Clients that send grouped updates without pause while processes are killed, and the books of what became of them.

Owns: groups that succeed, groups that are refused in the middle, undos that fail at first and are left to the worker.
Guarantees: a request whose answer was lost is sent again under its requestId until it is told. Does not: judge.
"""

import http.client
import json
import random
import threading
import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.utils import timezone

from rollback import compensate, journal
from rollback.models import CompensatingTask, Group, GroupedUpdate
from rollback.states import OPEN_TASKS, GroupStatus, TaskStatus
from syncportal.demo import DemoMaster
from syncportal.sync.models import Record, SyncJob
from tests import factories
from tests.kills.installation import until

ADDRESS = "/api/v1/grouped-updates/"
REFUSING, STUBBORN, CLIENTS = 4, 4, 2
TOLD_S = 60.0
OPEN_GROUPS = (GroupStatus.RUNNING, GroupStatus.COMPENSATING)
# Refusals and failures are part of the play here: they must not keep the remote's breaker open.
NEVER_OPENS = {"unreachable": 100_000, "failures": 100_000}


@dataclass
class Told:
    """The last answer about one request."""

    status: int
    body: dict[str, Any]
    replayed: bool


@dataclass
class GroupClients:
    """Sends groups to the web server on `port`; each request writes its number as the content."""

    master: DemoMaster
    port: int
    key: str
    external_ids: list[str]
    seed: int
    bodies: dict[int, dict[str, Any]] = field(default_factory=dict)
    told: dict[int, Told] = field(default_factory=dict)
    unexpected: list[tuple[int, int, str]] = field(default_factory=list)
    lost_answers: int = 0
    busy: int = 0
    _number: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _abandoned: bool = False
    _stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        limits = {"concurrency": 8, "total_timeout_s": 10, "connect_timeout_s": 3}
        remote = factories.make_remote(self.master.api_url, limits=limits, breaker=NEVER_OPENS)
        policy = {"compensation": {"attempts": 60, "base_s": 0.2, "cap_s": 1}}
        self.resource = factories.make_resource(remote, policy=policy)
        self.records = [record.pk for record in factories.take(self.master, self.resource, *self.external_ids)]
        self._break(self.external_ids[:REFUSING], self.external_ids[REFUSING : REFUSING + STUBBORN])
        self._threads = [threading.Thread(target=self._run, args=(n,), daemon=True) for n in range(CLIENTS)]

    def _break(self, refusing: list[str], stubborn: list[str]) -> None:
        """Let some objects refuse every write, and some refuse their first undos and answer slowly."""
        self.refusing, self.stubborn = refusing, stubborn
        self.willing = self.external_ids[REFUSING + STUBBORN :]
        for external_id in refusing:
            self.master.faults.add("status", object_id=external_id, phase="write", status=422)
        refusal = {"kind": "status", "status": 503}
        for external_id in stubborn:
            self.master.faults.add("latency", object_id=external_id, phase="read", latency_ms=250)
            self.master.faults.script([None, refusal, refusal] * 2_000, object_id=external_id, phase="write")
        self.master.faults.add("reset_after", object_id=self.willing[0], phase="write", rate=0.3)

    # ── sending ──────────────────────────────────────────────────────────────────────────────────────────────────
    def start(self) -> None:
        """Begin to send."""
        for thread in self._threads:
            thread.start()

    def stop(self, *, patience_s: float = TOLD_S + 10) -> None:
        """Make the current requests the last, and wait until each is told; then nothing refuses any more."""
        self._stop.set()
        self._abandoned = not patience_s
        for thread in self._threads:
            if thread.is_alive():
                thread.join(patience_s)
        self.master.faults.clear()

    def _run(self, which: int) -> None:
        chance = random.Random(self.seed * 100 + which)
        while not self._stop.wait(0.01):
            with self._lock:
                self._number += 1
                number = self._number
            chosen = chance.sample(self.willing, 3)
            if number % 2:
                chosen = [chosen[0], chance.choice(self.stubborn), chance.choice(self.refusing)]
            updates = [{"occurrenceId": one, "changes": {"notes": f"{number:06d}"}} for one in chosen]
            body = {"requestId": f"g-{number}", "resource": self.resource.slug,
                    "groups": [{"groupId": "g", "updates": updates}]}  # fmt: skip
            self.bodies[number] = body
            self._send_until_told(number, body)

    def _send_until_told(self, number: int, body: dict[str, Any]) -> None:
        end = time.monotonic() + TOLD_S
        while time.monotonic() < end and not self._abandoned:
            answer = self.ask("POST", ADDRESS, body)
            if answer is None:
                self.lost_answers += 1
            elif answer.status in (200, 207):
                self.told[number] = answer
                return
            elif answer.body.get("code") == "record_busy":
                self.busy += 1
                return
            elif answer.body.get("code") not in ("request_in_progress", "remote_unavailable"):
                self.unexpected.append((number, answer.status, str(answer.body)[:300]))
                return
            time.sleep(0.1)
        self.unexpected.append((number, 0, "never told"))

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Told | None:
        """Send one request; None when no answer came."""
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
            line.request(method, path, json.dumps(body) if body is not None else None, headers)
            answer = line.getresponse()
            return Told(answer.status, json.loads(answer.read()), answer.getheader("Idempotent-Replayed") == "true")
        except (OSError, http.client.HTTPException):
            return None
        finally:
            line.close()

    # ── moments and time ─────────────────────────────────────────────────────────────────────────────────────────
    def request_under_way(self, *, seconds: float) -> bool:
        """Wait for the middle of a group: it runs and one of its steps was sent or applied."""
        running = Group.objects.filter(status=GroupStatus.RUNNING, steps__status__in=["sent", "applied"])
        return until(running.exists, seconds=seconds, every=0.005)

    def undo_under_way(self, *, seconds: float) -> bool:
        """Wait until the worker is at a compensating task."""
        tasks = CompensatingTask.objects.filter(status=TaskStatus.PROCESSING, step__group__inline=False)
        return until(tasks.exists, seconds=seconds, every=0.005)

    def let_leases_run_out(self) -> None:
        """Do what the passing of a lease's time and any host's sweep would do, also to holders that still live."""
        now = timezone.now()
        past = now - timedelta(seconds=1)
        Group.objects.filter(status=GroupStatus.RUNNING).update(lease_until=past)
        CompensatingTask.objects.filter(status=TaskStatus.PROCESSING).update(lease_until=past)
        compensate.recover()
        journal.rescue_tasks(now=now)

    def let_due_times_come(self) -> None:
        """Do what the passing of the longest backoff would do."""
        CompensatingTask.objects.filter(status=TaskStatus.PENDING).update(next_attempt_at=timezone.now())

    # ── the books ────────────────────────────────────────────────────────────────────────────────────────────────
    def unsettled(self) -> list[tuple[str, str]]:
        """Return requests and records that still have something to come."""
        groups = Group.objects.filter(status__in=OPEN_GROUPS).values_list("request__request_id", "status")
        jobs = SyncJob.objects.filter(pk__in=self.records).exclude(held_by="").values_list("pk", "held_by")
        return [*groups, *((str(pk), holder) for pk, holder in jobs)]

    def half_applied(self) -> list[str]:
        """Return objects that hold the content of a group that is neither applied nor running nor to be undone.

        Groups go on meanwhile, so the questions follow their life: running, then to be undone, then applied. Asked the
        other way round, a group that is applied between two questions is found in neither answer.
        """
        seen = self._contents()
        running = Group.objects.filter(status=GroupStatus.RUNNING).values_list("steps__occurrence_id", flat=True)
        open_on = set(running)
        open_on |= set(CompensatingTask.objects.filter(status__in=OPEN_TASKS).values_list("occurrence_id", flat=True))
        applied = self.applied()
        now = self._contents()  # what was undone meanwhile is no violation
        return [
            f"{external_id} holds {content}"
            for external_id, content in seen.items()
            if content.isdigit() and now[external_id] == content and int(content) not in applied
            and external_id not in open_on
        ]  # fmt: skip

    def _contents(self) -> dict[str, str]:
        return {one: str(self.master.get("accounts", one)["notes"]) for one in self.external_ids}

    def applied(self) -> set[int]:
        """Return the numbers of the groups that the database calls applied."""
        rows = Group.objects.filter(status=GroupStatus.APPLIED).values_list("request__request_id", flat=True)
        return {int(request_id.removeprefix("g-")) for request_id in rows}

    def wrong_at_the_master(self) -> list[tuple[str, list[str]]]:
        """Return objects whose history at the master is not that of their groups.

        Each content arrives once; an applied group's stays until the next, another's is followed by what was before it.
        """
        applied, wrong = self.applied(), []
        for external_id in self.external_ids:
            writes = self.master.writes(object_id=external_id)
            if not writes:
                continue
            path = [writes[0].before["notes"], *(write.after["notes"] for write in writes)]
            steps = [(before, after) for before, after in zip(path, path[1:], strict=False) if before != after]
            kept, arrived, good = [path[0]], set(), True
            for before, after in steps:
                if str(before).isdigit() and before != path[0] and int(before) not in applied:
                    good &= after == kept[-1]  # undone at once: nothing may come between
                else:
                    good &= after not in arrived
                    arrived.add(after)
                    if int(after) in applied:
                        kept.append(after)
            wanted = {number for number in applied if external_id in self._objects_of(number)}
            good &= path[-1] == kept[-1] and {int(after) for after in kept[1:]} == wanted
            if not good:
                wrong.append((external_id, path))
        return wrong

    def _objects_of(self, number: int) -> list[str]:
        return [update["occurrenceId"] for update in self.bodies[number]["groups"][0]["updates"]]

    def apart(self) -> list[int]:
        """Return records whose content differs from the master's."""
        return [
            record.pk
            for record in Record.objects.filter(pk__in=self.records)
            if self.master.get("accounts", str(record.external_id))["notes"] != record.data["notes"]
        ]

    def false_answers(self) -> list[tuple[int, str, str]]:
        """Return requests of which something was told that is not so: applied or rolled back, or not on file."""
        found = []
        for number, told in self.told.items():
            group = Group.objects.filter(request__request_id=f"g-{number}").first()
            claimed = told.body["status"]
            now = group.status if group else "unknown"
            undone = {"rejected", "rolled_back", "compensated"}
            if (claimed == "applied") != (now == "applied") or (told.body["rolledBack"] and now not in undone):
                found.append((number, claimed, now))
        return found

    def bad_replays(self, *, most: int) -> list[tuple[int, str]]:
        """Send requests again, those first whose processes were killed; return those not answered as they stand."""
        stored = GroupedUpdate.objects.filter(request_id__startswith="g-").values_list("request_id", flat=True)
        numbers = [int(request_id.removeprefix("g-")) for request_id in stored]
        numbers.sort(key=lambda number: (number in self.told and not self.told[number].replayed, number))
        before, found = len(self.master.writes()), []
        for number in numbers[:most]:
            again = self.ask("POST", ADDRESS, self.bodies[number])
            live = self.ask("GET", f"{ADDRESS}g-{number}/")
            if again is None or live is None or not again.replayed or again.body != live.body:
                found.append((number, f"{again} {live}"[:500]))
            elif again.status != (200 if number in self.applied() else 207):
                found.append((number, f"status {again.status}"))
        if len(self.master.writes()) != before:
            found.append((0, "a replay wrote to the master"))
        return found
