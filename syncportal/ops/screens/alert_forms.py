"""The forms of alert rules and channels; what the stores refuse is shown at its field.

Guarantees: a stored secret never leaves the server, an empty field keeps it. Does not: save.
"""

from collections.abc import Mapping
from typing import Any

from django import forms

from syncportal.ops.alerts import channels, rule_store
from syncportal.ops.alerts.kinds import KINDS, WINDOWS_MIN, Kind, Scope
from syncportal.ops.alerts.models import AlertRule, Channel
from syncportal.ops.alerts.states import Severity
from syncportal.remote.models import Remote, Resource
from syncportal.sync.forms import Group

_SECRET = {"autocomplete": "new-password"}


class _StoreForm(forms.Form):
    """What both share: the store's problems at their fields."""

    def __init__(self, data: Any = None, *, initial: Mapping[str, Any] | None = None) -> None:
        super().__init__(data, initial=dict(initial or {}), label_suffix="")

    def add_problems(self, problems: Mapping[str, str]) -> None:
        """Show each problem at its field, the others above."""
        for name, problem in problems.items():
            self.add_error(name if name in self.fields else None, problem)

    def groups(self) -> list[Group]:
        """Return the fields as one group, for the page."""
        return [Group("", tuple(self))]


class KindForm(_StoreForm):
    """The first step of a new rule: which kind."""

    kind = forms.ChoiceField(label="What to watch", choices=Kind.choices)


class RuleForm(_StoreForm):
    """A rule of one kind; fields that the kind has no use for are left out."""

    enabled = forms.BooleanField(label="Switched on", required=False)
    severity = forms.ChoiceField(choices=Severity.choices)
    scope = forms.ChoiceField(label="One alert for", choices=Scope.choices)
    remote = forms.ModelChoiceField(
        queryset=Remote.objects.none(), required=False, empty_label="All remotes",
        help_text="Only for this remote; the wider rule then leaves it out.",
    )  # fmt: skip
    resource = forms.ModelChoiceField(
        queryset=Resource.objects.none(), required=False, empty_label="All resources",
        help_text="Only for this resource; the wider rule then leaves it out.",
    )  # fmt: skip
    threshold = forms.FloatField()
    window_min = forms.TypedChoiceField(
        label="Window", coerce=int, choices=[(minutes, f"{minutes} minutes") for minutes in WINDOWS_MIN]
    )
    minimum = forms.IntegerField(label="Minimum of attempts", help_text="Below it nothing is said.")

    def __init__(self, data: Any = None, *, kind: str, initial: Mapping[str, Any]) -> None:
        super().__init__(data, initial=initial)
        self.kind = KINDS[kind]
        self.fields["scope"].choices = [(scope.value, scope.label) for scope in self.kind.scopes]  # type: ignore[attr-defined]
        self.fields["remote"].queryset = Remote.objects.order_by("slug")  # type: ignore[attr-defined]
        self.fields["resource"].queryset = Resource.objects.order_by("slug")  # type: ignore[attr-defined]
        limits = self.kind.threshold
        if limits is None:
            del self.fields["threshold"]
        else:
            self.fields["threshold"].label = f"Limit, in {limits.unit}"
            self.fields["threshold"].help_text = f"Between {limits.least:g} and {limits.most:g}."
        unused = {
            "window_min": not self.kind.window_min,
            "minimum": not self.kind.minimum,
            "resource": Scope.RESOURCE not in self.kind.scopes,
            "remote": Scope.REMOTE not in self.kind.scopes,
        }
        for name in [name for name, is_unused in unused.items() if is_unused]:
            del self.fields[name]

    @staticmethod
    def initial_of(row: AlertRule) -> dict[str, Any]:
        """Return the fields' values of a stored rule."""
        names = ("enabled", "severity", "scope", "threshold", "window_min", "minimum")
        return {name: getattr(row, name) for name in names} | {"remote": row.remote_id, "resource": row.resource_id}

    def wanted(self) -> rule_store.Wanted:
        """Return the rule as the form says."""
        cleaned = self.cleaned_data
        remote, resource = cleaned.get("remote"), cleaned.get("resource")
        return rule_store.Wanted(
            kind=self.kind.kind.value, enabled=cleaned["enabled"], severity=cleaned["severity"],
            scope=cleaned["scope"], remote_id=remote.pk if remote else None,
            resource_id=resource.pk if resource else None, threshold=cleaned.get("threshold") or 0.0,
            window_min=cleaned.get("window_min") or 0, minimum=cleaned.get("minimum") or 0,
        )  # fmt: skip


class ChannelForm(_StoreForm):
    """A channel; one that comes with the installation has no address here."""

    name = forms.CharField(max_length=100, widget=forms.TextInput(attrs={"autocomplete": "off"}))
    via = forms.ChoiceField(label="How it travels", choices=Channel.Via.choices)
    enabled = forms.BooleanField(label="Switched on", required=False)
    lowest_severity = forms.ChoiceField(
        label="From this severity on", choices=Severity.choices, help_text="Alerts below it do not go here."
    )
    tells_recovery = forms.BooleanField(label="Also tell when it is over", required=False)
    target = forms.CharField(
        label="Addresses", required=False, max_length=2000, help_text="For e-mail, separated by commas.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )  # fmt: skip
    secret_url = forms.CharField(
        label="Secret address", required=False, max_length=2000, widget=forms.PasswordInput(attrs=_SECRET)
    )
    signing_key = forms.CharField(
        label="Signing key of a webhook", required=False, max_length=200, widget=forms.PasswordInput(attrs=_SECRET)
    )

    def __init__(self, data: Any = None, *, row: Channel | None, initial: Mapping[str, Any]) -> None:
        super().__init__(data, initial=initial)
        if row is not None and row.setting:
            for name in ("via", "target", "secret_url", "signing_key"):
                del self.fields[name]
            return
        stored = "One is stored and never shown. Leave this empty to keep it."
        self.fields["secret_url"].help_text = (
            stored if row is not None and row.secret_url
            else "For Slack, a webhook, or apprise. Stored encrypted, never shown again. Apprise makes its own "
            "connections: a host in its address is checked like those of remotes, one that its service names is not."
        )  # fmt: skip
        self.fields["signing_key"].help_text = (
            stored if row is not None and row.signing_key
            else "Any secret of at least 16 characters. The receiver needs the same, to prove that a message is ours."
        )  # fmt: skip

    @staticmethod
    def initial_of(row: Channel) -> dict[str, Any]:
        """Return the fields' values of a stored channel, never its secrets."""
        return {name: getattr(row, name) for name in ("name", "via", "enabled", "lowest_severity", "tells_recovery",
                                                      "target")}  # fmt: skip

    def wanted(self, row: Channel | None) -> channels.Wanted:
        """Return the channel as the form says."""
        cleaned = self.cleaned_data
        return channels.Wanted(
            name=cleaned["name"], via=cleaned.get("via") or (row.via if row else ""), enabled=cleaned["enabled"],
            lowest_severity=cleaned["lowest_severity"], tells_recovery=cleaned["tells_recovery"],
            target=cleaned.get("target", ""), secret_url=cleaned.get("secret_url") or None,
            signing_key=cleaned.get("signing_key") or None,
        )  # fmt: skip
