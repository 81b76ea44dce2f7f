"""One slice of a run, top-down: compare the list or read each object, hold the brake, confirm, end.

Guarantees: a slice ends within its seconds and one call; whatever was killed goes on from the cursor under a new claim;
an error of the remote leaves the run to go on later, unless asking again would meet the same, or met it often enough:
then what can be concluded without the answer is, and else the run ends.
Does not: know what started it; `runs.py` starts, `workers.py` rings.
"""

import time
from dataclasses import dataclass
from functools import partial

import structlog
from django.utils.translation import ngettext

from reconciliation import findings, journal, policy, summary
from reconciliation.confirm import Confirm
from reconciliation.direct import Direct
from reconciliation.journal import Fenced, Progress, Suspicion
from reconciliation.listing import Walk, is_passing
from reconciliation.models import Discrepancy, Run, Suspect
from reconciliation.pace import Pace
from reconciliation.scan import NO_ID, Scan
from reconciliation.states import BROKEN_IF_MANY, Kind, Phase, RunState, Scope
from syncportal.kernel.clock import db_now
from syncportal.kernel.tx import assert_outside_transaction, atomic_retry
from syncportal.remote.errors import Misconfiguration, RemoteError
from syncportal.remote.gateway import ResourceClient, client_for
from syncportal.remote.spec import spec_for
from syncportal.sync import call_reports, events
from syncportal.sync.call_reports import Called
from syncportal.sync.events import Fact
from syncportal.sync.models import Record
from syncportal.sync.slots import NoSlot

log = structlog.get_logger(__name__)

PAUSE_S = 30.0
THREADS = 8


@dataclass(frozen=True, slots=True)
class Sliced:
    """What a slice came to. worked False: another worker has the run, or the remote may not be called now."""

    run: Run
    worked: bool = True

    @property
    def goes_on(self) -> bool:
        """Tell whether another slice can go on at once."""
        return self.worked and self.run.state == RunState.RUNNING


def run_slice(run_id: int, *, seconds: float) -> Sliced:
    """Work on a run for about `seconds` and return how it stands; never raises for what the remote does."""
    assert_outside_transaction()
    run = journal.claim(run_id, now=db_now())
    if run is None:
        return Sliced(_as_it_stands(run_id), worked=False)
    worked = True
    try:
        _work(run, until=time.monotonic() + seconds)
        journal.leave(run, now=db_now())
    except Fenced:
        log.info("reconcile.fenced", run=run_id, claim_no=run.claim_no)
        worked = False
    except NoSlot as refused:
        journal.leave(run, now=db_now(), problem=str(refused), pause_s=PAUSE_S)
        worked = False
    except Misconfiguration as problem:
        _fail(run, str(problem))
    except RemoteError as error:
        worked = not _may_pass(run, error)
        if worked:
            _fail(run, error.detail)
        else:
            journal.leave(run, now=db_now(), problem=error.detail, pause_s=PAUSE_S, failed=error.transient)
    except BaseException:
        journal.leave(run, now=db_now(), pause_s=PAUSE_S)
        raise
    return Sliced(_as_it_stands(run_id), worked)


def _may_pass(run: Run, error: RemoteError) -> bool:
    """Tell whether the run waits and asks again."""
    last = error.transient and journal.is_last_try(run, most=spec_for(run.resource).most_reads)
    return is_passing(error) and not last


def _as_it_stands(run_id: int) -> Run:
    """Return the run; one that went with its resource while it ran could not look at everything."""
    gone = Run(pk=run_id, state=RunState.FAILED, problem="The resource was removed while it was being compared.")
    return Run.objects.select_related("resource__remote").filter(pk=run_id).first() or gone


def _client_of(run: Run) -> ResourceClient:
    """Return a client; a credential that is refused before the first call pauses the remote like any other."""
    try:
        return client_for(run.resource)
    except RemoteError as error:
        called = Called(spec_for(run.resource).remote, None, error.kind.value, error.detail)
        call_reports.report([called], now=db_now())
        raise


def _work(run: Run, *, until: float) -> None:
    client = _client_of(run)
    run.problem = ""
    with Pace(client.spec.remote, client, want=1) as pace:
        if run.phase in (Phase.LISTING, Phase.SPOOLING, Phase.SORTED_REST):
            _compare_list(run, client, pace=pace, until=until)
        if run.phase == Phase.READING:
            pace.widen(THREADS)
            _read_each(run, client, pace=pace, until=until)
        if run.phase == Phase.CONFIRMING:
            pace.widen(THREADS)
            _confirm(run, client, pace=pace, until=until)


def _compare_list(run: Run, client: ResourceClient, *, pace: Pace, until: float) -> None:
    scan = Scan(run, client.spec)
    if run.phase != Phase.SORTED_REST:
        try:
            for taken in Walk(client, lambda: scan.place, pace=pace, until=until).pages():
                scan.take_page(taken)
        except RemoteError as error:
            if _may_pass(run, error) or not scan.place.pages:
                raise
            scan.place.break_off(error)
        if not scan.place.ended:
            return
        if run.phase == Phase.SPOOLING:
            scan.begin_spooled()
    asked_at = db_now()
    if run.phase == Phase.SORTED_REST:
        while scan.take_spooled(asked_at=asked_at):
            if time.monotonic() > until:
                return
    while scan.take_rest(asked_at=asked_at):
        if time.monotonic() > until:
            return
    atomic_retry(partial(_go_over_to_confirming, run, scan))


def _read_each(run: Run, client: ResourceClient, *, pace: Pace, until: float) -> None:
    direct = Direct(run, client)
    while direct.take_batch(pace=pace, until=until):
        if time.monotonic() > until:
            return
    atomic_retry(partial(_go_over_to_confirming, run, Scan(run, client.spec)))


def _go_over_to_confirming(run: Run, scan: Scan) -> None:
    """Add what earlier runs left unsettled and nobody passed by, hold the brake if need be, and move on."""
    progress = Progress(phase=Phase.CONFIRMING)
    scan.braked = scan.braked or _brake(run, scan)
    if run.scope == Scope.ALL:
        left = Discrepancy.objects.unsettled().filter(resource_id=run.resource_id)
        if scan.braked:  # what only a complete list can settle stays as it is
            left = left.exclude(kind=Kind.DUPLICATE_KEY)
        known = Suspect.objects.filter(run_id=run.pk).values("external_id")
        ids = list(left.exclude(external_id__in=known).exclude(external_id="").values_list("external_id", flat=True))
        journal.suspect(run.pk, (Suspicion(external_id) for external_id in ids))
        progress.counts["checked"] += len(ids)
    progress.cursor = scan.cursor()
    now = db_now()
    journal.advance(run, progress, now=now)
    journal.forget_spool(run.pk)
    if scan.braked:
        _say(run, events.Kind.RECONCILIATION_BRAKED, reason=scan.braked)


def _brake(run: Run, scan: Scan) -> str:
    """Say why nothing may be repaired by itself, "" when nothing speaks against it."""
    if scan.place.trouble:
        return scan.place.trouble
    short, spec = scan.place.shortfall(), scan.spec
    if short > scan.place.total * spec.policy.brake_percent / 100:
        rows = ngettext("row", "rows", short)
        return f"The list ended {short:,} {rows} before the {scan.place.total:,} that it claimed to have."
    counts: dict[str, int] = {kind: journal.suspected_of(run.pk, [kind]) for kind in BROKEN_IF_MANY}
    if spec.window is not None:  # what is outside its dates is missing from a sound list, too
        del counts[Kind.MISSING_REMOTE]
    among = _among(run)
    if not policy.is_braked(counts, checked=among, spec=spec):
        return ""
    missing, different = counts.get(Kind.MISSING_REMOTE, 0), counts[Kind.DATA_MISMATCH]
    looks = f"{missing:,} {ngettext('seems', 'seem', missing)} to be missing"
    differs = f"{different:,} {ngettext('differs', 'differ', different)}"
    return f"Of {among:,} rows {looks} and {differs}: more than {spec.policy.brake_percent:g} %."


def _among(run: Run) -> int:
    """Return the number of rows of which only so many may seem broken.

    A person selects what looks odd, so a selection is judged by the share of the resource's records: it repairs no more
    by itself than a complete run that found the same would.
    """
    if run.scope != Scope.SELECTION:
        return run.checked
    rows = Record.objects.filter(resource_id=run.resource_id, external_id__isnull=False, deleted_at__isnull=True)
    return max(run.checked, rows.count())


def _confirm(run: Run, client: ResourceClient, *, pace: Pace, until: float) -> None:
    braked = str(run.cursor.get("braked", ""))
    confirm = Confirm(run, client, braked=braked)
    while confirm.take_batch(pace=pace, until=until):
        if time.monotonic() > until:
            return
    atomic_retry(partial(_end, run, braked=braked))


def _end(run: Run, *, braked: str) -> None:
    now = db_now()
    unlisted = int(run.cursor.get("unlisted", 0))
    trouble = [braked] if braked else []
    if unlisted and run.scope == Scope.ALL and spec_for(run.resource).window is None:
        objects = ngettext("object that exists", "objects that exist", unlisted)
        trouble.append(f"The list left out {unlisted:,} {objects}.")
    if run.scope == Scope.ALL and not braked:
        progress = Progress()
        progress.counts["closed"] += findings.close_unseen(run.resource_id, NO_ID, run_id=run.pk, now=now)
        journal.advance(run, progress, now=now)
    state = RunState.BRAKED if braked else RunState.FINISHED
    journal.end(run, state, problem=" ".join(trouble), now=now)
    _tell_end(run.pk)


def _fail(run: Run, detail: str) -> None:
    def work() -> None:
        journal.end(run, RunState.FAILED, problem=detail, now=db_now())
        _tell_end(run.pk)

    try:
        atomic_retry(work)
    except Fenced:
        log.info("reconcile.fenced", run=run.pk, claim_no=run.claim_no)


def _tell_end(run_id: int) -> None:
    run = Run.objects.select_related("resource__remote").get(pk=run_id)
    _say(run, events.Kind.RECONCILIATION_FINISHED, origin=run.origin, **summary.as_data(run))


def _say(run: Run, kind: events.Kind, **data: object) -> None:
    told = {"run": run.pk, "scope": run.scope, "dry_run": run.dry_run, **data}
    events.write([Fact(kind, None, run.resource_id, run.resource.remote_id, data=told)], now=db_now())
