"""The installation that the benchmark of the dashboard builds fits the tables, and every page of it answers."""

import pytest

from bench import dashboard, many
from syncportal.remote.models import Resource
from syncportal.sync.models import SyncJob


@pytest.mark.db
@pytest.mark.django_db(transaction=True, reset_sequences=True)
def test_the_benchmark_of_the_dashboard_builds_and_measures(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dashboard, "TURNS", 1)
    dashboard.build(400, [800, 800])
    dashboard.measure()
    told = capsys.readouterr().out
    for name in ("data, 30 days, one owner's records", *dashboard.LISTS):
        assert name in told
    assert Resource.objects.count() == many.RESOURCES
    assert SyncJob.objects.count() == 400
