"""Empties the outbox: takes what is due, hands it over in threads, writes down what came of it.

Guarantees: claim, send and outcome are three steps, and no transaction is open while a message travels; a message is
marked as sent only after its channel took it, so a kill at any instant repeats it and never loses it; a channel that is
slow or down costs the others nothing. Does not: decide what is told.
"""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import structlog

from syncportal.kernel.clock import db_now
from syncportal.kernel.tx import assert_outside_transaction
from syncportal.ops.alerts import channels, outbox, ways
from syncportal.ops.alerts.models import Channel, Delivery
from syncportal.ops.alerts.ways import NotTaken, Parcel

log = structlog.get_logger(__name__)

LANES: Final = 6
PATIENCE_S: Final = 12.0
_MANY: Final = 2_000


@dataclass(slots=True)
class Sent:
    """What one round over the outbox did."""

    sent: int = 0
    failed: int = 0


def send_due(*, seconds: float = 15.0, clock: Callable[[], datetime] = db_now) -> Sent:
    """Send what is due, beginning no message later than leaves it time to end within `seconds`."""
    assert_outside_transaction()
    done, trouble = Sent(), set[int | None]()
    until = time.monotonic() + seconds
    for _ in range(_MANY):
        if time.monotonic() + PATIENCE_S > until:
            break
        batch = outbox.claim_due(now=clock(), limit=LANES, skip=trouble)
        if not batch:
            break
        for delivery, problem in _all_at_once(batch):
            _settle(delivery, problem, now=clock())
            done.sent += problem is None
            done.failed += problem is not None
            if problem is not None:
                trouble.add(delivery.channel_id)
    return done


def send_one(delivery_id: int, *, clock: Callable[[], datetime] = db_now) -> str | None:
    """Send one delivery now; return "" when it was taken, else the problem; None when somebody else is sending it."""
    assert_outside_transaction()
    delivery = outbox.claim(delivery_id, now=clock())
    if delivery is None:
        return None
    [(_, problem)] = _all_at_once([delivery])
    _settle(delivery, problem, now=clock())
    return problem.detail if problem is not None else ""


def _settle(delivery: Delivery, problem: NotTaken | None, *, now: datetime) -> None:
    if problem is None:
        outbox.succeed(delivery, now=now)
        return
    log.warning("delivery.failed", delivery=delivery.pk, channel=delivery.channel_id, detail=problem.detail,
                attempts=delivery.attempts, permanent=problem.permanent)  # fmt: skip
    outbox.fail(delivery, problem.detail, permanent=problem.permanent, retry_after_s=problem.retry_after_s, now=now)


def _all_at_once(batch: Sequence[Delivery]) -> list[tuple[Delivery, NotTaken | None]]:
    """Send each in a thread of its own; who has not ended in time counts as failed, whatever becomes of it.

    Daemon threads, because a mail server that drips its answer must not keep a worker from ending.
    """
    ended: queue.Queue[tuple[int, NotTaken | None]] = queue.Queue()
    for number, delivery in enumerate(batch):
        parcel = parcel_of(delivery)
        threading.Thread(target=_send, args=(number, parcel, ended), daemon=True, name="notice").start()
    results: dict[int, NotTaken | None] = {}
    until = time.monotonic() + PATIENCE_S
    while len(results) < len(batch):
        try:
            number, problem = ended.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            break
        results[number] = problem
    late = NotTaken("It was not taken in time.")
    return [(delivery, results.get(number, late)) for number, delivery in enumerate(batch)]


def _send(number: int, parcel: Parcel, ended: "queue.Queue[tuple[int, NotTaken | None]]") -> None:
    try:
        ways.send(parcel)
    except NotTaken as problem:
        ended.put((number, problem))
    except Exception as problem:
        log.exception("delivery.broken", uid=parcel.uid, via=parcel.via)
        ended.put((number, NotTaken(f"An error of ours: {type(problem).__name__}.")))
    else:
        ended.put((number, None))


def parcel_of(delivery: Delivery) -> Parcel:
    """Return what is sent, with the channel's secrets as they are now."""
    channel = delivery.channel
    mail_to: Sequence[str] = ()
    if channel is None:
        mail_to = [delivery.person.email] if delivery.person and delivery.person.email else []
    elif channel.via == Channel.Via.EMAIL:
        mail_to = channels.recipients(channel)
    return Parcel(
        uid=str(delivery.uid),
        via=channel.via if channel is not None else Channel.Via.EMAIL.value,
        subject=delivery.subject,
        body=delivery.body,
        payload=dict(delivery.payload),
        recipients=tuple(mail_to),
        url=channels.url_of(channel) if channel is not None and channel.via != Channel.Via.EMAIL else "",
        signing_key=str(channel.signing_key) if channel is not None else "",
    )
