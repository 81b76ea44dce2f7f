"""What the worker's log says of attempts: one line for each that did not end in agreement.

Guarantees: ids and codes only, with the correlation id of the edit that caused it; attempts that succeeded cost nothing
(their history is in the sync log). Does not: store anything.
"""

from collections.abc import Iterable

import structlog

from syncportal.sync.claims import Outcome
from syncportal.sync.states import COMPLETE, POSTPONE, REBASE, SKIP

log = structlog.get_logger(__name__)

_SILENT = frozenset({COMPLETE.name, SKIP.name})
_USUAL = frozenset({POSTPONE.name, REBASE.name})


def tell(outcomes: Iterable[Outcome], *, remote: str) -> None:
    """Log the attempts that failed, met a conflict, were merged or postponed."""
    for outcome in outcomes:
        name = outcome.verb.name
        if name in _SILENT:
            continue
        say = log.info if name in _USUAL else log.warning
        claim = outcome.claim
        say(
            "attempt.ended", verb=name, reason=outcome.reason, error=outcome.error_code or outcome.error_kind,
            remote=remote, record_id=claim.record_id, attempt=claim.attempt, claim_no=claim.claim_no,
            correlation_id=claim.correlation_id,
        )  # fmt: skip
