"""The four roles as groups, made after every migration.

Owns: which permissions a new group starts with. Guarantees: a group that an administrator changed is left as it is;
only missing or empty groups are filled. Does not: make permissions; Django does after each migration, before this.
"""

from collections.abc import Iterable
from typing import Any, Final

from django.apps import apps

VIEWERS: Final = "Viewers"
OWNERS: Final = "Record owners"
OPERATIONS: Final = "Operations"
ADMINISTRATORS: Final = "Administrators"

_SEE_OWN = ("sync.view_record", "sync.view_syncjob", "sync.view_synclog", "sync.view_conflict", "sync.view_event",
            "remote.view_resource")  # fmt: skip
_EDIT_OWN = ("sync.add_record", "sync.change_record", "sync.delete_record", "sync.change_conflict")
_SEE_ALL = ("sync.see_all_records", "remote.view_remote", "remote.view_gate", "sync.view_pull")
_CONFIGURE = tuple(
    f"{app}.{verb}_{model}"
    for app, model in (("remote", "remote"), ("remote", "resource"), ("auth", "user"), ("auth", "group"),
                       ("access", "apikey"))
    for verb in ("add", "change", "delete", "view")
)  # fmt: skip

ROLES: Final[dict[str, tuple[str, ...]]] = {
    VIEWERS: (*_SEE_OWN, *_SEE_ALL),
    OWNERS: (*_SEE_OWN, *_EDIT_OWN),
    OPERATIONS: (*_SEE_OWN, *_EDIT_OWN, *_SEE_ALL, "sync.operate_records"),
    ADMINISTRATORS: (*_SEE_OWN, *_EDIT_OWN, *_SEE_ALL, "sync.operate_records", *_CONFIGURE),
}

GRANTABLE: Final = frozenset(name for names in ROLES.values() for name in names)


def make_roles() -> None:
    """Make the groups that do not exist yet, with their permissions."""
    groups = apps.get_model("auth", "Group")._default_manager
    for name, wanted in ROLES.items():
        group, made = groups.get_or_create(name=name)
        if made or not group.permissions.exists():
            group.permissions.set(permissions_named(wanted))


def permissions_named(names: Iterable[str]) -> list[Any]:
    """Return the rows of permissions such as "sync.view_record", those that exist."""
    rows = apps.get_model("auth", "Permission")._default_manager.select_related("content_type")
    known = {f"{row.content_type.app_label}.{row.codename}": row for row in rows}
    return [known[name] for name in names if name in known]
