"""How one message travels over one channel: mail, Slack, a signed webhook, or apprise.

Guarantees: HTTP goes through the client of the remotes, so the same addresses are refused, a call ends in `CALL_S`, no
redirect is followed; secrets stay out of every error; a mail keeps one Message-ID through all repetitions, a webhook
one id. Does not: touch the database; it runs in a thread of its own. Apprise is an extra and makes its own connections:
the host that its address names is checked before and redirects are off; a host that only a service names is not.
"""

import hmac
import importlib
import json
import logging
import smtplib
import time
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from django.conf import settings
from django.core.mail import EmailMessage

from syncportal.kernel.redaction import Redactor
from syncportal.ops.alerts import wording
from syncportal.remote.addresses import AddressPolicy, AddressRefused, NameNotResolved
from syncportal.remote.client import Deadline, HttpClient, HttpLimits, HttpRequest
from syncportal.remote.errors import RemoteError

logging.getLogger("apprise").setLevel(logging.CRITICAL)  # it quotes addresses, and an address is a secret

CALL_S: Final = 10.0
RESOLVE_S: Final = 3.0
SUBJECT_PREFIX: Final = "[SyncPortal]"
SIGNATURE: Final = "X-SyncPortal-Signature"
DELIVERY: Final = "X-SyncPortal-Delivery"
_GONE: Final = 410
_NEVER: Final = frozenset({"address_refused", "unsendable"})


class NotTaken(Exception):
    """The channel did not take the message; `permanent` means that the same will never be taken there."""

    def __init__(self, detail: str, *, permanent: bool = False, retry_after_s: float | None = None) -> None:
        super().__init__(detail)
        self.detail = wording.flat(detail, 300)
        self.permanent = permanent
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class Parcel:
    """A message with everything its way needs: read in the database's thread, sent in another."""

    uid: str
    via: str
    subject: str
    body: str
    payload: dict[str, Any]
    recipients: tuple[str, ...] = ()
    url: str = ""
    signing_key: str = ""

    def __repr__(self) -> str:
        return f"Parcel({self.uid}, {self.via})"


def send(parcel: Parcel) -> None:
    """Hand the message over; raises NotTaken."""
    match parcel.via:
        case "email":
            _mail(parcel)
        case "slack":
            text = wording.slack_text(f"{SUBJECT_PREFIX} {parcel.subject}", parcel.body)
            quiet = {"mrkdwn": False, "unfurl_links": False, "unfurl_media": False}
            _post(parcel, json.dumps({"text": text, **quiet}).encode(), {})
        case "webhook":
            body = wording.webhook_body(parcel.uid, parcel.payload)
            _post(parcel, body, signed(body, key=parcel.signing_key, at=int(time.time())) | {DELIVERY: parcel.uid})
        case "apprise":
            _apprise(parcel)
        case _:
            raise NotTaken(f"There is no way {parcel.via!r}.", permanent=True)


def signed(body: bytes, *, key: str, at: int) -> dict[str, str]:
    """Return the header that proves a webhook: HMAC-SHA256 over the time, a dot and the body; nothing without a key."""
    if not key:
        return {}
    seal = hmac.new(key.encode(), f"{at}.".encode() + body, "sha256").hexdigest()
    return {SIGNATURE: f"t={at},v1={seal}"}


def _mail(parcel: Parcel) -> None:
    if not parcel.recipients:
        raise NotTaken("There is no address to send to.")
    host = urlsplit(settings.PUBLIC_URL).hostname or "localhost"
    headers = {"Message-ID": f"<{parcel.uid}@{host}>", "Auto-Submitted": "auto-generated"}
    subject = f"{SUBJECT_PREFIX} {parcel.subject}"
    try:
        message = EmailMessage(subject, parcel.body, to=list(parcel.recipients), headers=headers)
        taken = message.send(fail_silently=False)
    except smtplib.SMTPRecipientsRefused as refusal:
        codes = [code for code, _ in refusal.recipients.values()]
        permanent = bool(codes) and all(code >= 500 for code in codes)
        raise NotTaken(f"The mail server refused all recipients ({codes[:3]}).", permanent=permanent) from None
    except (OSError, ValueError) as problem:  # SMTP's own errors are OSErrors
        secrets = [text for text in (settings.EMAIL_HOST_PASSWORD,) if text]
        said = Redactor(secrets=secrets).line(f"{type(problem).__name__}: {problem}")
        raise NotTaken(f"The mail server did not take it. {said}") from None
    if not taken:
        raise NotTaken("The mail backend took nothing.")


def _post(parcel: Parcel, body: bytes, headers: dict[str, str]) -> None:
    path = parcel.url.split("://", 1)[-1].partition("/")[2]
    client = HttpClient(limits=HttpLimits(pool_size=1), secrets=(parcel.url, path, parcel.signing_key))
    request = HttpRequest(
        method="POST", url=parcel.url, purpose="notice", headers={"Content-Type": "application/json", **headers},
        body=body, is_write=True, lenient=True, request_id=parcel.uid,
    )  # fmt: skip
    try:
        client.send(request, deadline=Deadline(CALL_S))
    except RemoteError as error:
        permanent = error.status == _GONE or error.code in _NEVER
        raise NotTaken(error.detail, permanent=permanent, retry_after_s=error.retry_after_s) from None
    finally:
        client.close()


def _apprise(parcel: Parcel) -> None:
    try:
        apprise = importlib.import_module("apprise")  # 12 MB, and not installed everywhere
    except ImportError:
        raise NotTaken("The extra is not installed: pip install apprise.") from None
    way = apprise.Apprise()
    if not way.add(str(parcel.url)):
        raise NotTaken("Apprise does not understand the address.", permanent=True)
    for service in way:
        _check_hosts(service)
        service.redirects = False
    title = f"{SUBJECT_PREFIX} {parcel.subject}"
    try:
        taken = way.notify(title=title, body=parcel.body, body_format="text")
    except Exception as problem:  # a plugin may raise anything; its words may hold the address
        raise NotTaken(f"Apprise failed: {type(problem).__name__}.") from None
    if not taken:
        raise NotTaken("Apprise could not hand it over.")


def _check_hosts(service: Any) -> None:
    """Refuse a service whose address names a host that calls may not go to; raises NotTaken.

    Where the address has no part called host, what stands in its place is a token and tells nothing.
    """
    if "host" not in service.template_tokens:
        return
    host = str(getattr(service, "smtp_host", None) or service.host or "").strip("[]")  # a mail's host is its domain
    try:
        if host:
            AddressPolicy(settings.REMOTE_ALLOWED_NETWORKS).resolve(host, 0, timeout_s=RESOLVE_S)
    except AddressRefused as refusal:
        raise NotTaken(refusal.detail, permanent=True) from None
    except NameNotResolved as problem:
        raise NotTaken(problem.detail) from None
