"""Tables of the pages: a figure stays on one line with what is behind its ±, and an empty cell gets a dash."""

from __future__ import annotations

import re
from typing import Any


def on_page_content(html: str, **_: Any) -> str:
    """``html`` with spaces around ± that do not break, and dashes in empty cells."""
    return re.sub(r"<td([^>]*)></td>", r"<td\1>–</td>", html.replace(" ± ", "\u00a0±\u00a0"))
