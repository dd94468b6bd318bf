"""How pages are made from their templates."""

from __future__ import annotations

from pathlib import Path

import jinja2

from decouple.report import formats


def environment() -> jinja2.Environment:
    """Templates of this folder, with the filters that write numbers; what a template does not know is an error."""
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.filters |= {
        "percent": formats.percent_tag,
        "nats": formats.nats_tag,
        "ratio": formats.ratio_tag,
        "count": formats.count_tag,
        "plural": formats.plural,
        "size": formats.size,
        "duration": formats.duration,
    }
    return found
