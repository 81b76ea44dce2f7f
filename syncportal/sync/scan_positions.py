"""The only writer of ScanPosition: how far a periodic scan has come. Call in the transaction of the slice."""

from syncportal.sync.models import ScanPosition


def locked(name: str) -> int:
    """Lock a scan's position and return the id after which its next slice begins."""
    position, _ = ScanPosition.objects.select_for_update().get_or_create(name=name)
    return position.after_id


def move(name: str, *, to: int) -> None:
    """Remember where the next slice begins; 0 is the start."""
    ScanPosition.objects.filter(pk=name).update(after_id=to)
