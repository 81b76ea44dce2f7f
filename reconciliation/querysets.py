"""Questions that are asked about runs and discrepancies in more than one place."""

from typing import Self

from django.db import models
from django.db.models import F

from reconciliation.states import UNSETTLED, RunState, State
from syncportal.sync.querysets import Person, sees_everything


class RunQuerySet(models.QuerySet):
    """Runs by state and by who may see them."""

    def running(self) -> Self:
        """Return the runs that are not at their end."""
        return self.filter(state=RunState.RUNNING)

    def visible_to(self, user: Person) -> Self:
        """Return all runs to those who see every record: a run's counts tell about all of them."""
        return self if sees_everything(user) else self.none()


class DiscrepancyQuerySet(models.QuerySet):
    """Discrepancies by state, by who may see them, and by what can be done about them."""

    def open(self) -> Self:
        """Return those that wait for somebody."""
        return self.filter(state=State.OPEN)

    def unsettled(self) -> Self:
        """Return those that are open or ignored: both sides still differ, as far as we know."""
        return self.filter(state__in=sorted(UNSETTLED))

    def wanted(self) -> Self:
        """Return those whose repair was asked for and has not been tried yet, oldest wish first."""
        return self.filter(wanted_at__isnull=False).order_by(F("wanted_at").asc(), "pk")

    def visible_to(self, user: Person) -> Self:
        """Return those of the user's records; those without a record only to who sees every record."""
        if sees_everything(user):
            return self
        return self.filter(record__owner_id=user.pk) if user.is_authenticated else self.none()
