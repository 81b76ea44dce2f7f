"""Who sees alerts and who may do what: one place for pages and API.

Owns: the rules. Guarantees: alerts tell about the records of everybody, so only who sees those sees alerts; operations
act on them; administrators change rules and channels. Does not: decide what is legal in a state.
"""

from django.db.models import QuerySet

from syncportal.ops.alerts.models import Alert
from syncportal.sync import rights
from syncportal.sync.querysets import Person, sees_everything


def may_see(user: Person) -> bool:
    """Tell whether the user sees alerts, deliveries, rules and channels."""
    return user.is_authenticated and sees_everything(user)


def may_act(user: Person) -> bool:
    """Tell whether the user may acknowledge, silence and send again."""
    return rights.operates(user)


def may_configure(user: Person) -> bool:
    """Tell whether the user may change rules and channels: who configures remotes."""
    return user.has_perm("remote.change_remote")


def visible_alerts(user: Person) -> QuerySet[Alert]:
    """Return the alerts that the user may see."""
    return Alert.objects.all() if may_see(user) else Alert.objects.none()
