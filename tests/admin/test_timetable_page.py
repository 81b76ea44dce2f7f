"""The timetable's page: everything that runs by the clock, and the buttons for those who may."""

from datetime import timedelta

from django.urls import reverse
from django.utils import timezone

from reconciliation import timetable
from reconciliation.models import Run
from syncportal.ops import duties
from syncportal.ops.duties import DUTIES
from syncportal.ops.models import Duty
from syncportal.sync.models import Event
from tests.admin.conftest import HOSTILE, World

PAGE = reverse("admin:ops_duty_changelist")


def do(world: World, verb: str, name: str, *, who: str = "ops", **data: str) -> str:
    answer = world.client(who).post(reverse(f"admin:ops_duty_{verb}", args=[name]), data, follow=True)
    return str(answer.content.decode()) if answer.status_code == 200 else str(answer.status_code)


def test_every_duty_and_comparison_stands_there_with_its_last_and_next_run(world: World) -> None:
    now = timezone.now()
    duties.run("seal")
    Duty.objects.create(
        name="retention", every_s=3600, last_started_at=now - timedelta(hours=9), last_ok=False,
        last_result=f"ValueError: {HOSTILE[0]}", failures=3, last_duration_ms=1234,
    )  # fmt: skip
    run = Run.objects.create(
        resource=world.resource, origin="schedule", state="finished", phase="done", checked=6, matched=5,
        started_at=now - timedelta(days=1), progress_at=now, finished_at=now - timedelta(days=1) + timedelta(seconds=2),
    )  # fmt: skip
    text = world.client("vera").get(PAGE).content.decode()
    assert all(f"<strong>{spec.name}</strong>" in text for spec in DUTIES)
    assert "1,234 ms" in text and "3 times in a row" in text and HOSTILE[0] not in text
    assert reverse("admin:reconciliation_run_change", args=[run.pk]) in text and "6 compared, 1 differ" in text
    assert text.count("Never ran") == len(DUTIES) - 2 + 1, "all but two duties, and the daily sample"
    assert "2,000 ms" in text and "Daily sample" in text
    assert "Sundays at 02:00" in text and "0 2 * * 0" in text and "daily at 03:30" in text
    assert "No worker is running." in text and "Run now" not in text
    assert "Run now" in world.client("ops").get(PAGE).content.decode()
    assert world.client("olga").get(PAGE).status_code == 403


def test_a_line_is_paused_with_a_reason_and_resumed(world: World) -> None:
    assert "please say why" in do(world, "pause", "retention", reason="  ")
    text = do(world, "pause", "retention", reason=HOSTILE[0])
    assert "is paused until somebody resumes it" in text and "Paused" in text and HOSTILE[0] not in text
    assert "is paused; resume it first" in do(world, "run", "retention")
    assert "paused already" in do(world, "pause", "retention", reason="again")
    assert "made up for once" in do(world, "resume", "retention")
    assert "was not paused" in do(world, "resume", "retention")
    kinds = Event.objects.filter(kind__startswith="duty.", actor=world.people["ops"]).order_by("pk")
    assert list(kinds.values_list("kind", flat=True)) == ["duty.paused", "duty.resumed"]


def test_a_comparison_is_run_and_paused_like_a_duty(world: World) -> None:
    line = timetable.line_of(world.resource.pk)
    do(world, "pause", line, reason="The remote moves house")
    assert line in duties.paused_names()
    assert "resume it first" in do(world, "run", line) and not Run.objects.exists()
    do(world, "resume", line)
    do(world, "run", line)
    assert Run.objects.get().started_by == world.people["ops"]
    assert "1 samples" in do(world, "run", timetable.SAMPLES) or Run.objects.count() == 1


def test_only_operations_act_and_only_on_what_there_is(world: World) -> None:
    for verb in ("run", "pause", "resume"):
        assert do(world, verb, "seal", who="vera", reason="x") == "403"
        assert do(world, verb, "nothing", reason="x") == "404"
        assert world.client("ops").get(reverse(f"admin:ops_duty_{verb}", args=["seal"])).status_code == 405
    assert not Duty.objects.exists() and not Event.objects.filter(kind__startswith="duty.").exists()
