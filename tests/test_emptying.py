"""A test that commits leaves nothing behind and takes nothing away."""

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.db import connection

from syncportal.access import roles
from syncportal.sync.models import Event, Record
from tests.emptying import AsMigrated
from tests.factories import ACCOUNTS, NEW_ACCOUNT, create, make_remote, make_resource


def everything() -> dict[str, list]:
    found = {}
    with connection.cursor() as cursor:
        for table in connection.introspection.django_table_names(only_existing=True, include_views=False):
            cursor.execute(f"SELECT * FROM {table} ORDER BY 1")
            found[table] = [tuple(row) for row in cursor.fetchall()]
    return found


@pytest.mark.db
@pytest.mark.django_db(transaction=True)
def test_rows_added_changed_and_removed_are_put_right() -> None:
    before, as_migrated = everything(), AsMigrated.remembered()
    create(make_resource(make_remote("http://127.0.0.1:1/api"), ACCOUNTS), NEW_ACCOUNT)
    User.objects.create_user("somebody").groups.add(Group.objects.get(name=roles.OWNERS))
    Group.objects.create(name="added").permissions.add(Permission.objects.all()[0])
    Group.objects.filter(name=roles.VIEWERS).update(name="changed")
    Group.objects.get(name=roles.ADMINISTRATORS).delete()
    Permission.objects.filter(codename="view_record").delete()
    assert Record.objects.exists() and Event.objects.exists()
    as_migrated.restore()
    assert everything() == before
