"""What a resource's policy does about a confirmed difference. Pure.

Nothing is ever deleted by itself: an object missing at one side is a person's decision in the deleting direction,
whatever the policy says. A record with changes of its own, or a remote that went back in time, is a person's, too.
"""

from collections.abc import Mapping

from reconciliation.states import Direction, Kind
from syncportal.remote import versions
from syncportal.remote.knobs import DEFAULT_REPAIR
from syncportal.remote.payloads import RemoteObject
from syncportal.remote.spec import ResourceSpec

OFF, ALERT = "off", "alert"
FEWEST_TO_BRAKE = 3


def rule_of(kind: str, *, spec: ResourceSpec) -> str:
    """Return off, take_remote, push_local or alert; kinds that a resource does not name have the default."""
    return spec.policy.repair.get(kind, DEFAULT_REPAIR[kind])


def plan(
    kind: Kind, *, unsent: bool, version: str | None, shown: RemoteObject | None, spec: ResourceSpec
) -> Direction | None:
    """Return the repair that the policy allows by itself, None to leave it to a person.

    unsent: the record asks something of the remote that its base does not hold. version: the record's.
    """
    rule = rule_of(kind, spec=spec)
    if rule == Direction.TAKE_REMOTE:
        return Direction.TAKE_REMOTE if _may_take(kind, unsent=unsent, version=version, shown=shown) else None
    if rule == Direction.PUSH_LOCAL and kind in (Kind.VERSION_DRIFT, Kind.DATA_MISMATCH, Kind.MISSING_REMOTE):
        return Direction.PUSH_LOCAL
    return None


def _may_take(kind: Kind, *, unsent: bool, version: str | None, shown: RemoteObject | None) -> bool:
    if kind == Kind.MISSING_LOCAL:
        return True
    if kind not in (Kind.VERSION_DRIFT, Kind.DATA_MISMATCH) or unsent or shown is None:
        return False
    relation = versions.compare(version, shown.version) if version and shown.version else ""
    if relation == "older":
        return False
    # Other content under the same version, where versions cannot hide a change, is a fault of the remote's.
    return not (relation == "equal" and kind == Kind.DATA_MISMATCH and versions.is_finer_than_a_second(version))


def is_braked(counts: Mapping[str, int], *, checked: int, spec: ResourceSpec) -> bool:
    """Tell whether so much is missing or different that the list is more likely broken than the data.

    counts: by kind, of what both sides were compared for; one or two rows are no pattern.
    """
    many = counts.get(Kind.MISSING_REMOTE, 0) + counts.get(Kind.DATA_MISMATCH, 0)
    return many >= FEWEST_TO_BRAKE and many > checked * spec.policy.brake_percent / 100
