"""The page of likely unlabelled positives: one file of HTML, pictures inside."""

from __future__ import annotations

import base64
import mimetypes
from pathlib import Path
from typing import Any

from hardneg.extras import require

__all__ = ["page_of"]

TEMPLATE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">
<title>Likely unlabelled positives</title>
<style>
body { font: 15px/1.4 system-ui, sans-serif; margin: 2em; }
div { overflow-x: auto; }
table { border-collapse: collapse; }
th, td { text-align: left; vertical-align: top; padding: .4em .8em; border-bottom: 1px solid #8886; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
small { color: #808080; } img { display: block; max-width: 160px; max-height: 160px; }
</style></head><body>
<h1>Likely unlabelled positives</h1>
<p>{{ rows | length }} of {{ total }} candidates that score near or above the highest-scoring positive of their
query.</p>
<div><table>
<thead><tr><th>query</th><th>candidate</th><th>score</th><th>its positive</th><th>score</th><th>excess</th></tr>
</thead><tbody>
{% for row in rows %}<tr>
<td>{{ cell(row.query, row.query_text, row.rows[0]) }}</td>
<td>{{ cell(row.candidate, row.candidate_text, row.rows[1]) }}</td>
<td class="number">{{ "%.4f" | format(row.score) }}</td>
<td>{{ cell(row.positive, row.positive_text, row.rows[2]) }}</td>
<td class="number">{{ "%.4f" | format(row.positive_score) }}</td>
<td class="number">{{ "%+.4f" | format(row.excess) }}</td>
</tr>{% endfor %}
</tbody></table></div></body></html>
"""
CELL = """{% macro cell(picture, text, row) %}{% if picture %}<img src="{{ picture }}" alt="">{% endif %}\
{% if text is defined and text is not none %}{{ text }} {% endif %}<small>row {{ row }}</small>{% endmacro %}"""


def page_of(rows: list[dict[str, Any]], total: int) -> str:
    """The page; ``query``, ``candidate`` and ``positive`` of a row are paths of pictures, or None."""
    jinja = require("jinja2", "mining", "a report page")
    environment = jinja.Environment(autoescape=True)
    shown = [
        row | {name: data_address(row[name]) for name in ("query", "candidate", "positive")}
        for row in rows
    ]
    page: str = environment.from_string(CELL + TEMPLATE).render(rows=shown, total=total)
    return page


def data_address(picture: Any) -> str | None:
    """A picture as an address that holds it."""
    if picture is None:
        return None
    kind = mimetypes.guess_type(str(picture))[0] or "image/png"
    content = base64.b64encode(Path(picture).read_bytes()).decode()
    return f"data:{kind};base64,{content}"
