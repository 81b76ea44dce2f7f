"""Who looks at a stream, and whether they still may: rights can end while it is open."""

from django.contrib.auth.models import User
from django.contrib.sessions.backends.base import SessionBase

from syncportal.access import keys
from syncportal.kernel.clock import db_now
from syncportal.sync.live.hub import Viewer
from syncportal.sync.live.stream import Renew
from syncportal.sync.querysets import Person, sees_everything


def viewer_of(user: Person) -> Viewer:
    """Return the signed-in person as a viewer."""
    return Viewer(user.pk or 0, sees_everything(user))


def renewed_by_key(key_id: int, user_id: int) -> Renew:
    """Return the question whether a key's stream may go on."""
    return lambda: _fresh(user_id) if keys.still_holds(key_id, now=db_now()) else None


def renewed_by_session(session: SessionBase, user_id: int, *, staff: bool) -> Renew:
    """Return the question whether a browser's stream may go on: still signed in, and still `staff` where it must be."""
    key = session.session_key

    def renew() -> Viewer | None:
        signed_in = key is not None and type(session)().exists(key)
        return _fresh(user_id, staff=staff) if signed_in else None

    return renew


def _fresh(user_id: int, *, staff: bool = False) -> Viewer | None:
    user = User.objects.filter(pk=user_id, is_active=True).first()
    return None if user is None or (staff and not user.is_staff) else viewer_of(user)
