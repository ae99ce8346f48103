"""Data Docs: Great Expectations' own page of a check, kept without a single value of the data."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import Any, Final

# Counts, and nothing that was counted.
_KEPT: Final = frozenset(
    {
        *("element_count", "missing_count", "missing_percent", "unexpected_count", "unexpected_percent"),
        *("unexpected_percent_total", "unexpected_percent_nonmissing", "observed_value"),
    }
)
# The page would ask other people's servers for its style and scripts.
_OUTSIDE: Final = re.compile(
    r"<script\b[^>]*\bsrc=[^>]*>\s*</script>|<link\b[^>]*>|<img\b[^>]*>|url\([^)]*https?:[^)]*\)"
)
_STYLE: Final = (
    "<style>body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:70em;padding:0 1em}"
    "table{border-collapse:collapse;margin:1em 0}td,th{border:1px solid #ccd;padding:.3em .7em;text-align:left}"
    ".modal,.navbar,iframe{display:none}</style></head>"
)


def write_page(found: Any, path: Path) -> None:
    """Write the page of a suite's result, complete or not at all; ``found`` is emptied of its values.

    What a column is compared with (clients, parts) is data too: the page says how many there are.
    """
    # Takes part of the seconds that the library's import takes.
    from great_expectations.render.renderer import ValidationResultsPageRenderer  # noqa: PLC0415 - see above
    from great_expectations.render.view import DefaultJinjaPageView  # noqa: PLC0415 - see above

    for result in found.results:
        result.result = {name: value for name, value in result.result.items() if name in _KEPT}
        wanted = result.expectation_config.kwargs
        if "value_set" in wanted:
            wanted["value_set"] = [f"{len(wanted['value_set'])} known values"]
    page = _OUTSIDE.sub("", str(DefaultJinjaPageView().render(ValidationResultsPageRenderer().render(found))))
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(page.replace("</head>", _STYLE, 1))
    Path(name).replace(path)
