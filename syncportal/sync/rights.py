"""Who may do what to a record: one place for the admin's pages.

Owns: the rules that join permissions with ownership. Guarantees: an owner acts on own records only, with no role needed
beside being named the owner; operations on all; everybody else on none. Does not: decide what is legal in a status;
operate.py and resolve.py do.
"""

from django.db.models import QuerySet

from syncportal.bulk.models import BulkOperation
from syncportal.sync.models import Record
from syncportal.sync.querysets import Person

OPERATE = "sync.operate_records"


def operates(user: Person) -> bool:
    """Tell whether the user acts on the records of every owner."""
    return user.has_perm(OPERATE)


def may_look(user: Person) -> bool:
    """Tell whether the user may open the record pages at all; which records, `visible_to` says."""
    return user.has_perm("sync.view_record") or user.has_perm("sync.change_record") or operates(user)


def visible_operations(user: Person) -> QuerySet[BulkOperation]:
    """Return the bulk operations that the user may see: their own, and all for operations."""
    rows = BulkOperation.objects.all()
    return rows if operates(user) else rows.filter(user__pk=user.pk or 0)


def may_create(user: Person) -> bool:
    """Tell whether the user may make new records."""
    return user.has_perm("sync.add_record")


def may_edit(user: Person, record: Record) -> bool:
    """Tell whether the user may change the record's content."""
    return _in_charge(user, record)


def may_delete(user: Person, record: Record) -> bool:
    """Tell whether the user may delete the record on both sides."""
    return _in_charge(user, record)


def may_operate(user: Person, record: Record) -> bool:
    """Tell whether the user may requeue, refresh or resolve: operations, and owners their own."""
    return _in_charge(user, record)


def _in_charge(user: Person, record: Record) -> bool:
    return operates(user) or record.owner_id == user.pk
