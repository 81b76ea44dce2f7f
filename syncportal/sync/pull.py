"""The first import, and every later one: streams a resource's objects into records.

Owns Pull. One page at a time, so memory stays constant; the cursor is stored with each page, so a
pull goes on where it stopped. Only records that agree and are not held are touched; others count
as busy. A page that fails again and again ends the pull, which goes on there when somebody asks.
Where the remote can list what changed (`modified_since`), a pull asks for that only, from the start
of the last pull that left nothing out. Nothing is ever deleted because a list did not show it;
an object that a list shows as deleted is read by itself before anybody is asked.
"""

import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial

from django.conf import settings
from django.db import IntegrityError
from django.db.models import F, Max, Q, Window
from django.db.models.functions import RowNumber

from syncportal.kernel import doorbell, pointer
from syncportal.kernel.clock import db_now
from syncportal.kernel.tx import assert_outside_transaction, atomic_retry
from syncportal.remote import versions
from syncportal.remote.client import Deadline
from syncportal.remote.errors import Misconfiguration, RemoteError, Throttled, Unauthorized
from syncportal.remote.gateway import ResourceClient
from syncportal.remote.models import Resource
from syncportal.remote.payloads import Page, RemoteObject
from syncportal.remote.spec import ResourceSpec, spec_for
from syncportal.sync import bypassed, call_reports, events, open_conflicts, records, states, transitions
from syncportal.sync.call_reports import Called
from syncportal.sync.conflicts import Json
from syncportal.sync.disputes import because, dispute
from syncportal.sync.events import Fact, Kind
from syncportal.sync.models import Conflict, Pull, Record, SyncJob
from syncportal.sync.records import RecordState
from syncportal.sync.slots import NoSlot, slots
from syncportal.sync.states import Intent
from syncportal.sync.tasks import DRAIN, PULL, REFRESH
from syncportal.sync.transitions import NewJob
from syncportal.sync.validation import answer_problems

LEASE_S = 60.0
PAUSE_S = 30.0
WAIT_S = 30.0
KEPT_FOR = timedelta(days=90)
KEPT_PER_RESOURCE = 20
_WHOLE = Q(state="done", problem="", busy=0)


class PullRefused(Exception):
    """The pull cannot run; the message says why and what to do."""


@dataclass(slots=True)
class PageCounts:
    """What happened to one page's objects."""

    seen: int = 0
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    busy: int = 0
    invalid: int = 0


def start(resource: Resource, *, full: bool = False) -> Pull:
    """Return the resource's running pull, or begin a new one; `full` asks for everything again."""
    running = Pull.objects.filter(resource=resource, state="running").first()
    if running is not None:
        return running
    since = None if full else _since(resource)
    try:
        return Pull.objects.create(resource=resource, since=since, started_at=db_now())
    except IntegrityError:
        return Pull.objects.get(resource=resource, state="running")


def _since(resource: Resource) -> datetime | None:
    """Return from when on changes are new: the start of the last pull that left nothing out under this configuration.

    None where the remote cannot list changes, or where only a full list is sure to show everything.
    """
    if spec_for(resource).modified_since is None:
        return None
    configured_at = max(resource.updated_at, resource.remote.updated_at)
    whole = Pull.objects.filter(_WHOLE, resource=resource, started_at__gt=configured_at)
    return whole.order_by("-id").values_list("started_at", flat=True).first()


def request(resource: Resource, *, full: bool = False) -> Pull:
    """Begin a pull in the background."""
    pull = start(resource, full=full)
    doorbell.ring(PULL)
    return pull


def may_go_on(pull: Pull | None) -> bool:
    """Tell whether a pull, the resource's newest, was given up in the middle."""
    return pull is not None and pull.state == "failed" and bool(pull.cursor)


def request_going_on(resource: Resource) -> bool:
    """Let the newest pull go on in the background where it was given up; False when there is none such."""
    newest = Pull.objects.filter(resource=resource).order_by("-id").first()
    if newest is None or not may_go_on(newest):
        return False
    given_up = Pull.objects.filter(pk=newest.pk, state="failed")
    try:
        begun = given_up.update(state="running", tries=0, problem="", finished_at=None)
    except IntegrityError:
        return False  # somebody began another one at the same moment
    doorbell.ring(PULL)
    return bool(begun)


def run(pull_id: int, *, seconds: float | None = None, progress: Callable[[Pull], None] = lambda pull: None) -> Pull:
    """Pull page by page until the end, or for at most `seconds`; return the Pull as it stands.

    Raises PullRefused when another process works on it, Misconfiguration when the remote cannot be
    called. A remote's error ends the slice; the cursor stays, so the next run goes on there.
    """
    assert_outside_transaction()
    holder = uuid.uuid4().hex
    pull = Pull.objects.select_related("resource__remote").get(pk=pull_id)
    _take_over(pull, holder)
    started = time.monotonic()
    seen_cursors: set[str] = set()
    try:
        client = call_reports.signed_in(pull.resource)
        if not client.spec.has_list:
            _end(pull_id, holder, state="done", problem="The resource has no list to pull from.")
            raise PullRefused("The resource has no list: configure `list`, or create records by id.")
        while seconds is None or time.monotonic() - started < seconds:
            pull = Pull.objects.select_related("resource__remote").get(pk=pull_id)
            wait_s = WAIT_S if seconds is None else min(WAIT_S, seconds)
            with slots(client.spec.remote, client, want=1, wait_s=wait_s):
                page, asked_at = _page(client, pull)
            looping = page.next is not None and (page.next in seen_cursors or page.next == pull.cursor)
            counts = atomic_retry(partial(_take_page, pull, page, client, asked_at=asked_at))
            seen_cursors.add(page.next or "")
            problem = "The remote's list runs in a circle; it was read once." if looping else ""
            _advance(pull, holder, page, counts, done=page.next is None or looping, problem=problem)
            progress(Pull.objects.get(pk=pull_id))
            if page.next is None or looping:
                break
    except RemoteError as error:
        _stop(pull, holder, error)
        raise
    except Misconfiguration as problem:
        _end(pull_id, holder, state="failed", problem=problem.detail)
        raise
    except NoSlot as refused:
        raise PullRefused(str(refused)) from None
    finally:
        Pull.objects.filter(pk=pull_id, holder=holder).update(lease_until=None, holder="")
    return Pull.objects.get(pk=pull_id)


def run_waiting(*, seconds: float) -> int:
    """Go on with every pull that nobody works on; return how many slices ran."""
    now = db_now()
    waiting = Pull.objects.filter(Q(lease_until__isnull=True) | Q(lease_until__lt=now), state="running")
    slices = 0
    for pull_id in waiting.values_list("pk", flat=True):
        try:
            pull = run(pull_id, seconds=seconds)
        except (PullRefused, RemoteError, Misconfiguration):
            # Nothing is said twice: the Pull tells its problem. The pause keeps a failing remote from being hammered.
            later = db_now() + timedelta(seconds=PAUSE_S)
            Pull.objects.filter(pk=pull_id, state="running", lease_until__isnull=True).update(lease_until=later)
            continue
        slices += 1
        if pull.state == "running":
            doorbell.ring(PULL)
    return slices


def _stop(pull: Pull, holder: str, error: RemoteError) -> None:
    """Note what is wrong; end the pull when trying again would meet the same, or met it often enough."""
    most, tries = spec_for(pull.resource).most_reads, pull.tries + error.transient
    if error.transient and tries >= most:
        problem = f"Given up: the next page failed {tries} times in a row. {error.detail}"
        _end(pull.pk, holder, state="failed", problem=problem)
    elif error.transient or isinstance(error, Throttled | Unauthorized):
        Pull.objects.filter(pk=pull.pk, holder=holder).update(problem=error.detail, tries=tries)
    else:
        _end(pull.pk, holder, state="failed", problem=error.detail)


def _take_over(pull: Pull, holder: str) -> None:
    now = db_now()
    free = Pull.objects.filter(Q(lease_until__isnull=True) | Q(lease_until__lt=now), pk=pull.pk, state="running")
    if not free.update(holder=holder, lease_until=now + timedelta(seconds=LEASE_S), problem=""):
        raise PullRefused("Another process is pulling this resource right now.")


def _page(client: ResourceClient, pull: Pull) -> tuple[Page, datetime]:
    """Read the next page, and tell the breaker how that went."""
    asked_at = db_now()
    try:
        page = client.list_page(pull.cursor, deadline=Deadline(settings.CALL_TOTAL_S), since=pull.since)
    except RemoteError as error:
        call_reports.report([call_reports.failed(client.spec.remote, error)], now=db_now())
        raise
    call_reports.report([Called(client.spec.remote, None)], now=db_now())
    return page, asked_at


def _advance(pull: Pull, holder: str, page: Page, counts: PageCounts, *, done: bool, problem: str) -> None:
    now = db_now()
    changes = {name: F(name) + getattr(counts, name) for name in PageCounts.__slots__}
    moved = Pull.objects.filter(pk=pull.pk, holder=holder, state="running").update(
        cursor=None if done else page.next, lease_until=now + timedelta(seconds=LEASE_S), tries=0, **changes
    )
    if not moved:
        raise PullRefused("Another process took this pull over.")
    if done:
        _end(pull.pk, holder, state="done", problem=problem)


def prune(now: datetime) -> int:
    """Forget ended pulls that are old enough, but the last of each resource and the one that the next builds on."""
    place = Window(RowNumber(), partition_by=F("resource_id"), order_by=F("pk").desc())
    newest = Pull.objects.order_by().annotate(place=place).filter(place__lte=KEPT_PER_RESOURCE)
    whole = Pull.objects.filter(_WHOLE).order_by().values("resource_id").annotate(last=Max("pk"))
    kept = {*newest.values_list("pk", flat=True), *whole.values_list("last", flat=True)}
    old = Pull.objects.exclude(state="running").filter(finished_at__lt=now - KEPT_FOR)
    return old.exclude(pk__in=kept).delete()[0]


def _end(pull_id: int, holder: str, *, state: str, problem: str) -> None:
    def work() -> None:
        now = db_now()
        mine = Pull.objects.filter(pk=pull_id, holder=holder, state="running")
        if not mine.update(state=state, finished_at=now, problem=problem):
            return  # another process took it over
        pull = Pull.objects.select_related("resource").get(pk=pull_id)
        data = {name: getattr(pull, name) for name in PageCounts.__slots__} | {"state": state, "problem": problem}
        fact = Fact(Kind.PULL_FINISHED, None, pull.resource_id, pull.resource.remote_id, data=data)
        events.write([fact], now=now)

    atomic_retry(work)


def _take_page(pull: Pull, page: Page, client: ResourceClient, *, asked_at: datetime) -> PageCounts:
    """Apply one page in a transaction of its own."""
    counts = PageCounts(seen=len(page.objects) + len(page.problems), invalid=len(page.problems))
    now, spec = db_now(), client.spec
    valid: dict[str, RemoteObject] = {}
    _look_at_gone(pull.resource, [shown.external_id for shown in page.objects if shown.tombstone], now=now)
    for shown in page.objects:
        if shown.tombstone:
            continue
        if shown.external_id is None or shown.external_id in valid or answer_problems(shown.data, spec=spec):
            counts.invalid += 1
        else:
            valid[shown.external_id] = shown
    known = Record.objects.filter(resource=pull.resource, external_id__in=valid)
    locked = records.lock(known.values_list("pk", flat=True))
    if bypassed.take_in(locked, now=now):
        doorbell.ring(DRAIN)
    jobs = SyncJob.objects.select_for_update().order_by("pk").in_bulk(locked.keys())
    moved = set(known.filter(updated_at__gte=asked_at).values_list("pk", flat=True))
    free = {
        pk for pk, job in jobs.items()
        if job.status in states.AGREED and not job.held_by and not job.in_doubt and job.updated_at < asked_at
    } - moved  # fmt: skip
    by_id = {str(state.external_id): state for state in locked.values()}
    fresh = [shown for external_id, shown in valid.items() if external_id not in by_id]
    changed: list[RecordState] = []
    for external_id, state in by_id.items():
        if state.id not in free:
            counts.busy += 1
        else:
            _take_known(pull.resource, state, valid[external_id], spec, changed=changed, counts=counts, now=now)
    records.write([replace(state, synced_at=now) for state in changed], now=now)
    counts.updated += len(changed)
    _insert(pull.resource, fresh, spec, now=now)
    counts.created += len(fresh)
    facts = [Fact(Kind.RECORD_PULLED, s.id, s.resource_id, data={"version": s.version or ""}) for s in changed]
    events.write(facts, now=now)
    return counts


def _look_at_gone(resource: Resource, external_ids: Sequence[str | None], *, now: datetime) -> None:
    """Ask for a single read of records whose objects a list shows as deleted; one list is no proof."""
    gone = Record.objects.present().filter(resource=resource, external_id__in=[one for one in external_ids if one])
    ids = list(gone.values_list("pk", flat=True))
    if ids and transitions.request_refresh(ids, now=now):
        doorbell.ring(REFRESH)


def _take_known(
    resource: Resource,
    state: RecordState,
    shown: RemoteObject,
    spec: ResourceSpec,
    *,
    changed: list[RecordState],
    counts: PageCounts,
    now: datetime,
) -> None:
    """Compare one object with its record: match, newer, or something that a person must see."""
    if state.deleted_at is not None:
        changed.append(
            replace(state.with_data(shown.data), base=shown.data, version=shown.version, intent=Intent.UPDATE,
                    deleted_at=None)
        )  # fmt: skip
        transitions.reopen_agreed([state.id], now=now)
        return
    moved, merge = records.advance(state, base=state.base, remote=shown, spec=spec)
    relation = versions.compare(state.version, shown.version) if state.version and shown.version else ""
    if relation == "older":  # a list may lag: the object itself is read before anybody is asked
        transitions.request_refresh([state.id], now=now)
        doorbell.ring(REFRESH)
        counts.busy += 1
        return
    found = dispute(state, moved, merge, shown=shown, spec=spec)
    if relation == "equal" and merge.remote_changes:
        found = because(Conflict.Reason.VERSION_REUSE, merge.conflicts or merge.remote_changes)
    if found is not None:
        open_conflicts.ask(
            state, shown, found.reason, base=state.base, fields=found.fields, detail=found.detail, now=now
        )
        counts.updated += 1
    elif (
        (shown.version or state.version) == state.version  # a list that shows no versions takes none away
        and _says_the_same(moved.data, state.data, spec=spec)
        and _says_the_same(moved.base, state.base, spec=spec)
    ):
        counts.unchanged += 1
    else:
        changed.append(moved)


def _says_the_same(listed: Json | None, known: Json | None, *, spec: ResourceSpec) -> bool:
    """Tell whether a list's row says nothing new: a list may show other read-only places than a single read."""
    if listed is None or known is None or listed == known:
        return listed == known
    names = listed.keys() | known.keys()
    return all(
        listed[name] == known[name] if name in listed and name in known else spec.is_read_only(pointer.build((name,)))
        for name in names
    )


def _insert(resource: Resource, fresh: Sequence[RemoteObject], spec: ResourceSpec, *, now: datetime) -> None:
    """Make records for objects seen for the first time; both sides agree, so nothing is pushed."""
    wanted = [
        RecordState(
            id=0, resource_id=resource.pk, external_id=shown.external_id, data=shown.data, base=shown.data,
            version=shown.version, revision=1, intent=Intent.UPDATE, owner_id=None, deleted_at=None, synced_at=now,
        )
        for shown in fresh
    ]  # fmt: skip
    ids = records.insert(wanted, now=now)
    transitions.insert([NewJob(pk, resource.remote_id, False, spec.policy.max_attempts) for pk in ids], now=now)
