"""The page on which a person sees what arrived at the simulated vendors."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from datetime import UTC, datetime

from jinja2 import Environment, StrictUndefined

from ordernotify.sandbox._base import Reply
from ordernotify.sandbox._desk import Arrival, Desk

SHOWN = 20

_HEADERS = {
    "content-type": "text/html; charset=utf-8",
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'",
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
}

_COLUMNS = (
    ("requests", "Requests"),
    ("taken", "Taken"),
    ("distinct", "Distinct"),
    ("duplicates", "Duplicates"),
    ("refused", "Refused"),
    ("callbacks_sent", "Callbacks"),
    ("callbacks_failed", "Callbacks failed"),
)

_TEMPLATE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Sandbox: what arrived</title>
<style>
:root { color-scheme: light dark; --line: #8886; --soft: #8882; }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 64rem; margin: 0 auto; padding: 1.5rem; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.125rem; margin: 2rem 0 .75rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { padding: .375rem .75rem; text-align: right; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; }
thead th { font-weight: 600; font-size: .875rem; }
td { font-variant-numeric: tabular-nums; }
.fault { font-size: .875rem; font-weight: 400; }
article { border: 1px solid var(--line); border-radius: .5rem; margin: 0 0 1rem; overflow: hidden; }
article header { display: flex; flex-wrap: wrap; gap: .25rem 1rem; padding: .5rem 1rem;
  background: var(--soft); font-size: .875rem; }
article header b { font-size: 1rem; }
article time { margin-left: auto; }
article p { margin: 0; padding: .75rem 1rem; white-space: pre-wrap; overflow-wrap: anywhere;
  max-height: 24rem; overflow-y: auto; }
article footer { padding: 0 1rem .5rem; font: .8125rem/1.5 ui-monospace, monospace; overflow-wrap: anywhere; }
</style>
</head>
<body>
<h1>Sandbox</h1>
<p>These platforms are simulated on this machine. Nothing here went to a real person.
<a href="/">Refresh</a></p>
<div class="scroll">
<table>
<thead><tr><th scope="col">Platform</th>
{% for _, title in columns %}<th scope="col">{{ title }}</th>{% endfor %}</tr></thead>
<tbody>
{% for desk in desks %}
{% set totals = desk.totals() %}
<tr><th scope="row">{{ desk.vendor.name }}
{% if desk.fault %}<span class="fault">(fault on: {{ desk.fault.fault.value }})</span>{% endif %}</th>
{% for name, _ in columns %}<td>{{ totals[name] }}</td>{% endfor %}</tr>
{% endfor %}
</tbody>
</table>
</div>
<h2>Last {{ shown }} messages, newest first</h2>
{% for arrival in arrivals %}
<article>
<header><b>{{ arrival.vendor }}</b><span>to {{ arrival.to }}</span><time>{{ at(arrival) }}</time></header>
<p>{{ arrival.text }}</p>
<footer>{{ arrival.reference or "no reference" }} · {{ arrival.provider_ref or "no provider reference" }} ·
number {{ arrival.sequence }}</footer>
</article>
{% else %}
<p>Nothing has arrived yet.</p>
{% endfor %}
</body>
</html>
"""

_PAGE = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True).from_string(
    _TEMPLATE
)


def page(desks: Iterable[Desk]) -> Reply:
    """Return the page of all vendors, their counters and the last messages over all of them."""
    shelves = list(desks)
    newest = heapq.nlargest(
        SHOWN,
        (desk.arrivals[-place] for desk in shelves for place in range(1, min(SHOWN, len(desk.arrivals)) + 1)),
        key=lambda arrival: arrival.sequence,
    )
    text = _PAGE.render(desks=shelves, arrivals=newest, columns=_COLUMNS, shown=SHOWN, at=_at)
    return Reply(200, text.encode(), _HEADERS)


def _at(arrival: Arrival) -> str:
    at = datetime.fromtimestamp(arrival.received_at_ms / 1000, UTC)
    return at.strftime("%Y-%m-%d %H:%M:%S UTC")
