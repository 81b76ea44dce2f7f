"""The forms of remotes and resources: what people change often as fields, the rest as checked JSON.

Owns: taking a configuration apart into fields and putting it together again without losing a key, and showing each
problem where it belongs. Guarantees: a stored credential never leaves the server, an empty field keeps it; what
configuration.py refuses is shown with its pointer and the input is kept. Does not: save.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from syncportal.remote import configuration
from syncportal.remote.configuration import ConfigurationInvalid, Problem
from syncportal.remote.knob_rules import AUTH_KINDS, POLICIES
from syncportal.remote.models import SLUG_PATTERN, Remote
from syncportal.sync.forms import Group

AUTH_LABELS = {
    "none": "No credential", "basic": "User and password", "header": "A header", "query": "A part of the address",
    "oauth2_client_credentials": "OAuth 2 client credentials", "login": "A login that returns a token",
    "hook": "Signed by a Python function",
}  # fmt: skip
POLICY_LABELS = {"manual": "A person decides", "remote_wins": "The remote's value wins", "local_wins": "Ours wins"}
_LIMITS = ("concurrency", "per_second", "connect_timeout_s", "total_timeout_s")
Json = dict[str, Any]


class ConfigText(forms.CharField):
    """A JSON or YAML object in a text area; problems name their place."""

    def __init__(self, **options: Any) -> None:
        attrs = {"rows": 16, "class": "mono", "spellcheck": "false", "autocomplete": "off"}
        super().__init__(required=False, strip=False, widget=forms.Textarea(attrs=attrs), **options)

    def clean(self, value: Any) -> Json:
        """Return the object; an empty text is an empty one."""
        text = super().clean(value)
        if not text.strip():
            return {}
        try:
            parsed = configuration.parse(text)
        except ConfigurationInvalid as refusal:
            raise ValidationError([str(problem.message) for problem in refusal.problems]) from None
        if not isinstance(parsed, dict):
            raise ValidationError("Write an object: { … }.")
        return parsed


def as_text(config: Mapping[str, Any]) -> str:
    """Return configuration as people edit it."""
    return json.dumps(config, indent=2, ensure_ascii=False) if config else ""


class _ConfigForm(forms.Form):
    """What both forms share: the slug of something new, the name, and where problems are shown."""

    slug = forms.CharField(
        max_length=64, help_text="A short name for addresses and files; it cannot be changed later.",
        widget=forms.TextInput(attrs={"pattern": SLUG_PATTERN, "autocomplete": "off"}),
    )  # fmt: skip
    name = forms.CharField(max_length=200, required=False, help_text="What people call it.")
    places: Mapping[str, str] = {}

    def __init__(self, data: Any = None, *, creating: bool, initial: Json) -> None:
        super().__init__(data, initial=initial, label_suffix="")
        if not creating:
            del self.fields["slug"]
        text = str(self.data.get("rest") or self.initial.get("rest") or "")
        self.fields["rest"].widget.attrs["rows"] = min(32, max(6, text.count("\n") + 2))

    def add_problems(self, problems: Iterable[Problem]) -> None:
        """Show each problem at its field, the others at the editor with their pointer."""
        for problem in problems:
            field = next((name for at, name in self.places.items() if problem.pointer == at), None)
            if field in self.fields:
                self.add_error(field, problem.message[:1].upper() + problem.message[1:])
            else:
                self.add_error("rest", f"{problem.pointer or '/'}: {problem.message}")


class RemoteForm(_ConfigForm):
    """A remote."""

    base_url = forms.CharField(
        label="Base URL", max_length=500, widget=forms.URLInput(attrs={"placeholder": "https://master.example.org/api"})
    )
    auth_kind = forms.ChoiceField(
        label="How we prove who we are", choices=[(kind, AUTH_LABELS.get(kind, kind)) for kind in AUTH_KINDS]
    )
    source = forms.ChoiceField(
        label="Credential", required=False,
        choices=[("", "None"), ("env", "From the environment"), ("stored", "Stored here, encrypted")],
    )  # fmt: skip
    env_name = forms.CharField(
        label="Name of the variable", required=False, max_length=200,
        help_text="Only with “From the environment”, for example OPS_API_CREDENTIAL.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )  # fmt: skip
    secret = forms.CharField(
        label="Stored credential", required=False, strip=False, max_length=4000,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )  # fmt: skip
    concurrency = forms.IntegerField(label="Calls at once", required=False, help_text="Over all workers; default 8.")
    per_second = forms.FloatField(label="Calls per second", required=False, help_text="Empty: no limit.")
    connect_timeout_s = forms.FloatField(label="Seconds to connect", required=False, help_text="Default 3.")
    total_timeout_s = forms.FloatField(label="Seconds for a whole call", required=False, help_text="Default 10.")
    rest = ConfigText(
        label="Everything else",
        help_text="headers, content_type, breaker, transient, and the rest of auth, as in the configuration file.",
    )
    places = {
        "/slug": "slug", "/name": "name", "/base_url": "base_url", "/auth/kind": "auth_kind",
        "/auth/credential": "source", **{f"/limits/{name}": name for name in _LIMITS},
    }  # fmt: skip

    def __init__(self, data: Any = None, *, remote: Remote | None, initial: Json) -> None:
        super().__init__(data, creating=remote is None, initial=initial)
        has_secret = remote is not None and bool(remote.secret)
        self.fields["secret"].help_text = (
            "One is stored and never shown. Leave this empty to keep it." if has_secret else
            "Written once, encrypted, never shown again. For user and password write user:password."
        )  # fmt: skip
        self.has_secret = has_secret

    def groups(self) -> list[Group]:
        """Return the fields in groups, for the page."""
        names = {
            "": ["slug", "name", "base_url"], "Credential": ["auth_kind", "source", "env_name", "secret"],
            "Limits": list(_LIMITS), " ": ["rest"],
        }  # fmt: skip
        return [
            Group(label.strip(), tuple(self[name] for name in listed if name in self.fields))
            for label, listed in names.items()
        ]

    @staticmethod
    def initial_of(remote: Remote) -> Json:
        """Return the fields' values of a stored remote, never its secret."""
        config = remote.config if isinstance(remote.config, dict) else {}
        auth = dict(config.get("auth") or {})
        limits = dict(config.get("limits") or {})
        credential = str(auth.pop("credential", "") or "")
        kind = auth.pop("kind", "none")
        rest = {key: value for key, value in config.items() if key not in ("auth", "limits")}
        return {
            "name": remote.name, "base_url": remote.base_url, "auth_kind": kind,
            "source": "env" if credential.startswith("env:") else "stored" if credential == "stored" else "",
            "env_name": credential.removeprefix("env:").strip() if credential.startswith("env:") else "",
            **{name: limits.get(name) for name in _LIMITS},
            "rest": as_text({**rest, **({"auth": auth} if auth else {})}),
        }  # fmt: skip

    def clean(self) -> Json:
        """Check that the credential's parts fit together."""
        cleaned = super().clean() or {}
        if cleaned.get("source") == "env" and not cleaned.get("env_name"):
            self.add_error("env_name", "Name the variable of the environment.")
        if cleaned.get("source") == "stored" and not cleaned.get("secret") and not self.has_secret:
            self.add_error("secret", "Write the credential once; none is stored yet.")
        return cleaned

    def config(self) -> Json:
        """Put the configuration together again."""
        cleaned = self.cleaned_data
        rest = dict(cleaned["rest"])
        more = rest.pop("auth", None) or {}
        auth = {"kind": cleaned["auth_kind"], **(more if isinstance(more, dict) else {"rest": more})}
        if cleaned["source"] == "env":
            auth["credential"] = f"env:{cleaned['env_name'].removeprefix('env:').strip()}"
        elif cleaned["source"] == "stored":
            auth["credential"] = "stored"
        limits = {**(rest.pop("limits", None) or {}), **{n: cleaned[n] for n in _LIMITS if cleaned[n] is not None}}
        whole = {name: int(v) if isinstance(v, float) and v.is_integer() else v for name, v in limits.items()}
        said = {"auth": auth} if auth != {"kind": "none"} or self.data.get("had_auth") else {}
        return {**said, **({"limits": whole} if whole else {}), **rest}

    def new_secret(self) -> str | None:
        """Return the secret to store: None keeps the stored one, "" removes it."""
        if self.cleaned_data["source"] != "stored":
            return "" if self.has_secret else None
        return self.cleaned_data["secret"] or None


class ResourceForm(_ConfigForm):
    """A resource."""

    remote = forms.ModelChoiceField(queryset=Remote.objects.none(), help_text="It cannot move to another one later.")
    delays = forms.CharField(
        label="Seconds between attempts", required=False, help_text="For example 5, 25, 125: three retries.",
    )  # fmt: skip
    conflict = forms.ChoiceField(
        label="When both sides changed the same field", choices=[(name, POLICY_LABELS[name]) for name in POLICIES],
        required=False,
    )  # fmt: skip
    merge_disjoint = forms.BooleanField(
        label="Merge by itself when different fields were changed", required=False,
    )  # fmt: skip
    rest = ConfigText(
        label="Everything else",
        help_text="list, detail, id, version, precondition, update, schema and so on, as in the configuration file.",
    )
    field_order = ("remote", "slug", "name", "delays", "conflict", "merge_disjoint", "rest")
    places = {
        "/slug": "slug", "/name": "name", "/policy/retry/delays_s": "delays", "/policy/conflict": "conflict",
        "/policy/merge_disjoint": "merge_disjoint",
    }  # fmt: skip

    def __init__(self, data: Any = None, *, creating: bool, initial: Json) -> None:
        super().__init__(data, creating=creating, initial=initial)
        if creating:
            self.fields["remote"].queryset = Remote.objects.order_by("slug")  # type: ignore[attr-defined]
        else:
            del self.fields["remote"]

    def groups(self) -> list[Group]:
        """Return the fields as one group, for the page."""
        return [Group("", tuple(self))]

    @staticmethod
    def initial_of(name: str, config: Mapping[str, Any]) -> Json:
        """Return the fields' values of a stored configuration."""
        policy = dict(config.get("policy") or {})
        retry = dict(policy.pop("retry", None) or {})
        delays = retry.pop("delays_s", None)
        conflict, disjoint = policy.pop("conflict", "manual"), policy.pop("merge_disjoint", True)
        rest = {key: value for key, value in config.items() if key != "policy"}
        kept = {**policy, **({"retry": retry} if retry else {})}
        return {
            "name": name,
            "delays": ", ".join(f"{delay:g}" for delay in delays) if isinstance(delays, list) else "",
            "conflict": conflict,
            "merge_disjoint": disjoint,
            "rest": as_text({**rest, **({"policy": kept} if kept else {})}),
        }

    def clean_delays(self) -> list[int | float] | None:
        """Return the delays in seconds, None when none are given."""
        text = self.cleaned_data["delays"].strip()
        if not text:
            return None
        try:
            numbers = [float(part) for part in text.replace(";", ",").split(",") if part.strip()]
        except ValueError:
            raise ValidationError("Write numbers with commas between them.") from None
        return [int(number) if number.is_integer() else number for number in numbers]

    def config(self) -> Json:
        """Put the configuration together again; what stands at its default is left out."""
        rest = dict(self.cleaned_data["rest"])
        given = rest.pop("policy", None) or {}
        policy = dict(given) if isinstance(given, dict) else {"rest": given}
        if self.cleaned_data["delays"] is not None:
            policy["retry"] = {**(policy.get("retry") or {}), "delays_s": self.cleaned_data["delays"]}
        if self.cleaned_data["conflict"] not in ("", "manual"):
            policy["conflict"] = self.cleaned_data["conflict"]
        if not self.cleaned_data["merge_disjoint"]:
            policy["merge_disjoint"] = False
        return {**rest, **({"policy": policy} if policy else {})}
