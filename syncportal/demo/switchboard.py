"""The switchboard page: faults on and off, an outside edit, and what happened last. Plain HTML forms, no scripts.

Owns: the page and its style sheet. Guarantees: every value is escaped; the page runs under a policy without scripts.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

from syncportal.demo.faults import Rule
from syncportal.demo.kinds import PRESETS
from syncportal.demo.messages import Heard
from syncportal.demo.store import Write

CSP = "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"

STYLE = """
:root { color-scheme: light dark; --line: #c9ced6; --soft: #f3f5f8; --ink: #1c2430; --dim: #566072; --accent: #0b5cad;
  --alarm: #a3271f; --ground: #fff; }
@media (prefers-color-scheme: dark) { :root { --line: #3b4454; --soft: #1d2430; --ink: #e8ecf2; --dim: #a5b0c0;
  --accent: #7db7f5; --alarm: #ff9d94; --ground: #12161d; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1.25rem; font: 15px/1.5 system-ui, sans-serif; color: var(--ink);
  background: var(--ground); }
h1 { font-size: 1.4rem; margin: 0 0 .25rem; }
h2 { font-size: 1.05rem; margin: 1.75rem 0 .5rem; }
p { margin: .25rem 0 .75rem; color: var(--dim); }
.notice { padding: .6rem .8rem; border-left: 4px solid var(--accent); background: var(--soft); color: var(--ink); }
.alarm { color: var(--alarm); font-weight: 600; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: .75rem; padding: 0; }
.cards li { list-style: none; border: 1px solid var(--line); border-radius: 8px; padding: .7rem;
  background: var(--soft); }
.cards b { display: block; }
form.row { display: flex; flex-wrap: wrap; gap: .6rem; align-items: end; }
label { display: grid; grid-template-columns: minmax(0, 1fr); max-width: 100%;
  gap: .15rem; font-size: .85rem; color: var(--dim); }
input, select, button { font: inherit; padding: .4rem .6rem; border: 1px solid var(--line); border-radius: 6px;
  background: var(--ground); color: var(--ink); min-height: 2.4rem; max-width: 100%; }
button { cursor: pointer; border-color: var(--accent); color: var(--accent); font-weight: 600; }
button.stop { border-color: var(--alarm); color: var(--alarm); }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { text-align: left; padding: .35rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top; }
code { overflow-wrap: anywhere; }
"""


@dataclass(frozen=True, kw_only=True)
class Board:
    """What the page shows."""

    rules: tuple[Rule, ...]
    counts: Mapping[str, int]
    writes: tuple[Write, ...]
    requests: tuple[Heard, ...]
    fields: Mapping[str, tuple[str, ...]]
    notice: str


def page(board: Board) -> str:
    """Write the whole page."""
    counts = ", ".join(f"{count} {escape(name)}" for name, count in board.counts.items())
    notice = f'<p class="notice" role="status">{escape(board.notice)}</p>' if board.notice else ""
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Demo master: switchboard</title><link rel="stylesheet" href="/_demo/style.css"></head><body>
<main><h1>Demo master</h1>
<p>This plays the remote API that SyncPortal does not control. It holds {counts}.
Break it here and watch the portal.</p>
{notice}
{_active(board)}
<h2>Break something</h2>
{_presets(board)}
<h2>Change an object as somebody else would</h2>
<p>The portal is not told. Edit the same field there too and a conflict appears.</p>
{_edit(board)}
<h2>Last applied writes</h2>
{_writes(board)}
<h2>Last requests</h2>
{_requests(board)}
</main></body></html>
"""


def _active(board: Board) -> str:
    if not board.rules:
        return "<h2>Faults</h2><p>None. Every request is answered as it should be.</p>"
    rows = "".join(
        f"<tr><td>{escape(rule.name or rule.as_json()['kind'])}</td><td>{escape(_where(rule))}</td><td>{rule.hits}</td>"
        '<td><form method="post" action="/_demo/switch">'
        f'<button class="stop" name="off" value="{rule.number}">Off</button></form></td></tr>'
        for rule in board.rules
    )
    return (
        f'<h2 class="alarm">Faults: {len(board.rules)} on</h2>'
        f"{_table(('Fault', 'Strikes', 'Hits', 'Switch'), rows)}"
        '<form method="post" action="/_demo/switch"><p>'
        '<button class="stop" name="off" value="all">Switch everything off</button></p></form>'
    )


def _where(rule: Rule) -> str:
    match = rule.match
    parts = [match.collection or "everything", match.object_id, " ".join(match.methods), match.phase]
    if rule.rate < 1:
        parts.append(f"{rule.rate:.0%} of requests")
    if rule.times is not None:
        parts.append(f"{rule.times} more times")
    return ", ".join(part for part in parts if part)


def _presets(board: Board) -> str:
    choices = "".join(f'<option value="{name}">{name}: {escape(says)}</option>' for name, (says, _) in PRESETS.items())
    cards = "".join(
        f'<li><form method="post" action="/_demo/switch"><b>{name}</b><p>{escape(says)}.</p>'
        f'<button name="preset" value="{name}" aria-label="Switch on {name}">Switch on</button></form></li>'
        for name, (says, _) in PRESETS.items()
    )
    names = _collections(board)
    return (
        f'<ul class="cards">{cards}</ul><form class="row" method="post" action="/_demo/switch">'
        f'<label>Fault<select name="preset">{choices}</select></label>'
        f'<label>Only in<select name="collection"><option value="">all collections</option>{names}</select></label>'
        '<label>Only object<input name="object_id" placeholder="ACC-0001"></label>'
        '<label>Times (empty: until off)<input name="times" type="number" min="1"></label>'
        "<button>Switch on for these</button></form>"
    )


def _collections(board: Board) -> str:
    return "".join(f'<option value="{escape(name)}">{escape(name)}</option>' for name in board.counts)


def _edit(board: Board) -> str:
    names = sorted({name for fields in board.fields.values() for name in fields})
    options = "".join(f'<option value="{escape(name)}">' for name in names)
    return (
        '<form class="row" method="post" action="/_demo/change">'
        f'<label>Collection<select name="collection">{_collections(board)}</select></label>'
        '<label>Id<input name="id" required placeholder="ACC-0001"></label>'
        '<label>Field<input name="field" list="fields" placeholder="city"></label>'
        f'<datalist id="fields">{options}</datalist><label>New value<input name="value"></label>'
        '<button>Change it</button><button class="stop" name="delete" value="1">Delete the object</button></form>'
    )


def _writes(board: Board) -> str:
    if not board.writes:
        return "<p>None yet.</p>"
    rows = "".join(
        f"<tr><td>{write.seq}</td><td>{escape(f'{write.collection} {write.object_id}')}</td>"
        f"<td>{escape(f'{write.method} by {write.actor}')}</td>"
        f"<td>{_text(write.version_before)} → {_text(write.version_after)}</td><td>{_changed(write)}</td></tr>"
        for write in board.writes
    )
    return _table(("No.", "Object", "Write", "Version", "Changed"), rows)


def _changed(write: Write) -> str:
    if write.after is None:
        return "deleted"
    if write.before is None:
        return "created"
    own = {"updated_at", "version", "checksum"}
    before = write.before
    parts = [
        f"{escape(name)}: <code>{_text(before.get(name))}</code> → <code>{_text(value)}</code>"
        for name, value in write.after.items()
        if name not in own and value != before.get(name)
    ]
    return "<br>".join(parts) or "nothing"


def _requests(board: Board) -> str:
    if not board.requests:
        return "<p>None yet.</p>"
    rows = "".join(
        f"<tr><td>{heard.number}</td><td>{escape(heard.method)}</td><td><code>{escape(heard.path[:120])}</code></td>"
        f"<td>{heard.status or 'no answer'}</td><td>{escape(', '.join(heard.faults))}</td></tr>"
        for heard in board.requests
    )
    return _table(("No.", "Method", "Path", "Answered", "Fault"), rows)


def _table(heads: tuple[str, ...], rows: str) -> str:
    titles = "".join(f'<th scope="col">{head}</th>' for head in heads)
    return f'<div class="scroll"><table><thead><tr>{titles}</tr></thead><tbody>{rows}</tbody></table></div>'


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return escape(text if len(text) <= 80 else text[:80] + "…")
