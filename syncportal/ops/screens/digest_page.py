"""The page on which a person turns the daily digest on or off."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from syncportal.ops.alerts import digests
from syncportal.sync.screens.page import render


@require_http_methods(["GET", "POST"])
def digest_view(request: HttpRequest) -> HttpResponse:
    """Show the choice, or take it."""
    user = request.user
    assert user.is_authenticated  # the admin lets nobody else in
    if request.method == "POST":
        wanted = request.POST.get("wanted") == "yes"
        digests.choose(user, wanted=wanted)
        said = "You get one mail a day when something waits for you." if wanted else "You get no daily mail."
        messages.success(request, said)
        return HttpResponseRedirect(reverse("admin:ops_digest"))
    context = {"wanted": digests.choice_of(user), "email": user.email, "hour": digests.FROM_HOUR}
    return render(request, "alerts/digest.html", title="Daily digest", context=context)
