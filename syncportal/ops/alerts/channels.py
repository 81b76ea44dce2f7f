"""The only writer of Channel: the ways to people.

Guarantees: mail to OPERATIONS_EMAIL and Slack by SLACK_WEBHOOK_URL are channels from the start, usable as soon as the
setting is given, and their secret is read when it is needed, never stored; other addresses and keys are encrypted and
never shown again; the history holds none of them. Does not: send.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError
from simple_history.utils import bulk_create_with_history

from syncportal.kernel.tx import atomic_retry
from syncportal.ops.alerts.models import Channel
from syncportal.ops.alerts.states import RANK, Severity
from syncportal.remote.addresses import AddressRefused, parse_url

MOST_ADDRESSES = 50
SHORTEST_KEY = 16
_BUILT_IN = (
    ("OPERATIONS_EMAIL", "Operations mail", Channel.Via.EMAIL),
    ("SLACK_WEBHOOK_URL", "Slack", Channel.Via.SLACK),
)


class ChannelInvalid(Exception):
    """The channel cannot work; `problems` says why, by field name."""

    def __init__(self, problems: Mapping[str, str]) -> None:
        super().__init__("; ".join(problems.values()))
        self.problems = dict(problems)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A channel as a person wants it; secrets: None keeps the stored one."""

    name: str
    via: str
    enabled: bool = True
    lowest_severity: str = Severity.WARNING.value
    tells_recovery: bool = True
    target: str = ""
    secret_url: str | None = None
    signing_key: str | None = None


def ensure() -> int:
    """Make the channels that come with the installation; return how many were missing."""
    if Channel.objects.exclude(setting="").count() == len(_BUILT_IN):
        return 0

    def work() -> int:
        present = set(Channel.objects.exclude(setting="").values_list("setting", flat=True))
        names = set(Channel.objects.values_list("name", flat=True))
        missing = [
            Channel(name=f"{name} ({setting})" if name in names else name, via=via, setting=setting)
            for setting, name, via in _BUILT_IN
            if setting not in present
        ]
        if missing:
            bulk_create_with_history(missing, Channel, default_change_reason="default")
        return len(missing)

    try:
        return atomic_retry(work)
    except IntegrityError:
        return 0  # somebody else made them at the same moment


def recipients(channel: Channel) -> list[str]:
    """Return the addresses of a mail channel."""
    if channel.setting:
        return list(getattr(settings, channel.setting))
    return [part.strip() for part in channel.target.split(",") if part.strip()]


def url_of(channel: Channel) -> str:
    """Return the secret address of a channel that is not mail, "" when it has none."""
    return str(getattr(settings, channel.setting) if channel.setting else channel.secret_url)


def is_set_up(channel: Channel) -> bool:
    """Tell whether the channel has somewhere to send to."""
    return bool(recipients(channel) if channel.via == Channel.Via.EMAIL else url_of(channel))


def usable() -> list[Channel]:
    """Return the channels that are switched on and set up."""
    return [row for row in Channel.objects.filter(enabled=True).order_by("pk") if is_set_up(row)]


def takes(channel: Channel, severity: str) -> bool:
    """Tell whether a channel is used for a severity."""
    return RANK[severity] >= RANK[channel.lowest_severity]


def problems_of(wanted: Wanted, *, row: Channel | None) -> dict[str, str]:
    """Return what is wrong with a channel, by field; empty when it can be saved."""
    found = {}
    if not wanted.name.strip() or len(wanted.name) > 100 or not wanted.name.isprintable():
        found["name"] = "Up to 100 printable characters."
    elif Channel.objects.filter(name=wanted.name.strip()).exclude(pk=row.pk if row else 0).exists():
        found["name"] = "There already is a channel of this name."
    if wanted.via not in Channel.Via.values:
        found["via"] = "There is no such way."
    if wanted.lowest_severity not in Severity.values:
        found["lowest_severity"] = "There is no such severity."
    if row is not None and row.setting:
        return found
    if wanted.via == Channel.Via.EMAIL:
        problem = _addresses_problem(wanted.target)
        found |= {"target": problem} if problem else {}
    elif wanted.secret_url is None:
        if row is None or not row.secret_url:
            found |= {"secret_url": "Write the address once; none is stored yet."}
    elif wanted.via in (Channel.Via.SLACK, Channel.Via.WEBHOOK):
        try:
            parse_url(wanted.secret_url.strip())
        except AddressRefused as refusal:
            found["secret_url"] = refusal.detail
    if wanted.via == Channel.Via.WEBHOOK and not _has_key(wanted, row):
        found["signing_key"] = f"At least {SHORTEST_KEY} characters; the receiver gets the same."
    return found


def _has_key(wanted: Wanted, row: Channel | None) -> bool:
    key = wanted.signing_key if wanted.signing_key is not None else row.signing_key if row else ""
    return len(key) >= SHORTEST_KEY


def _addresses_problem(text: str) -> str:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts or len(parts) > MOST_ADDRESSES:
        return f"One to {MOST_ADDRESSES} addresses, separated by commas."
    for part in parts:
        try:
            validate_email(part)
        except ValidationError:
            return f"{part[:100]!r} is not an e-mail address."
    return ""


def store(row: Channel | None, wanted: Wanted, *, actor: Any, reason: str = "admin") -> Channel:
    """Make or change a channel; raises ChannelInvalid and then has changed nothing.

    A webhook needs a signing key, because its receiver has no other proof that a message is ours.
    """
    found = problems_of(wanted, row=row)
    if found:
        raise ChannelInvalid(found)

    def work() -> Channel:
        locked = Channel() if row is None else Channel.objects.select_for_update().get(pk=row.pk)
        locked.name, locked.enabled = wanted.name.strip(), wanted.enabled
        locked.lowest_severity, locked.tells_recovery = wanted.lowest_severity, wanted.tells_recovery
        if not locked.setting:
            locked.via = wanted.via
            locked.target = wanted.target.strip() if wanted.via == Channel.Via.EMAIL else ""
            _take_secrets(locked, wanted)
        _by(locked, actor=actor, reason=reason)
        locked.save()
        return locked

    return atomic_retry(work)


def _take_secrets(row: Channel, wanted: Wanted) -> None:
    if wanted.via == Channel.Via.EMAIL:
        row.secret_url = row.signing_key = ""
        return
    if wanted.secret_url is not None:
        row.secret_url = wanted.secret_url.strip()
    if wanted.via != Channel.Via.WEBHOOK:
        row.signing_key = ""
    elif wanted.signing_key is not None:
        row.signing_key = wanted.signing_key


def remove(row: Channel, *, actor: Any) -> None:
    """Remove a channel with its deliveries; raises ChannelInvalid for one that comes with the installation."""
    if row.setting:
        raise ChannelInvalid({"name": "It comes with the installation; switch it off instead."})
    _by(row, actor=actor, reason="removed")
    row.delete()


def _by(row: Any, *, actor: Any, reason: str) -> None:
    row._history_user = actor if getattr(actor, "pk", None) else None
    row._change_reason = reason[:100]
