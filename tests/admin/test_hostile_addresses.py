"""Addresses that people or programs make up: every list answers, whatever its filters are given."""

from urllib.parse import urlencode

import pytest
from django.contrib import admin
from django.contrib.admin import ModelAdmin
from django.urls import NoReverseMatch, reverse

from syncportal.sync.screens.own_filters import OwnFilters
from tests.admin.conftest import World

VALUES = (str(2**63), "\x00²", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-14:00")


def lists() -> dict[str, ModelAdmin]:
    """Return our lists by address; those of Django's own users and roles aside."""
    found = {}
    for model, one in admin.site._registry.items():
        if model._meta.app_label == "auth" or not one.list_filter:
            continue
        try:
            found[reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")] = one
        except NoReverseMatch:
            continue
    return found


@pytest.mark.parametrize("who", ["ops", "olga"])
def test_every_list_answers_whatever_its_filters_are_given(world: World, who: str) -> None:
    client = world.client(who)
    assert len(lists()) >= 11
    for address, one in lists().items():
        names = [str(chosen.parameter_name) for chosen in one.list_filter]
        for value in VALUES:
            everything = urlencode(dict.fromkeys([*names, "q", "o", "p"], value))
            answer = client.get(f"{address}?{everything}")
            assert answer.status_code in (200, 302, 403), (address, value)


def test_no_list_is_filtered_by_a_field_that_is_no_filter(world: World) -> None:
    client = world.client("ops")
    for address, one in lists().items():
        assert isinstance(one, OwnFilters), address
        for query in (f"id__in={2**63}", "nothing=1"):
            answer = client.get(f"{address}?{query}")
            assert (answer.status_code, answer.url) == (302, f"{address}?e=1"), (address, query)
        assert client.get(answer.url).status_code == 200
    records, olga = reverse("admin:sync_record_changelist"), world.client("olga")
    [one, other] = (olga.get(f"{records}{query}").context["cl"].result_count for query in ("", "?owner=none"))
    assert one == other > 0, "the filter is not hers"
