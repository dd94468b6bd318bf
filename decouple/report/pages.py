"""Writes a page from its template, with its figures inside and beside it."""

from __future__ import annotations

import base64
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from matplotlib.figure import Figure

from decouple import formats
from decouple.files import write_bytes, write_text
from decouple.report import style


def write_page(
    path: Path, template: str, figures: Mapping[str, Figure], values: Mapping[str, Any], known: Collection[str]
) -> Path:
    """Write a page that needs no network and no script, and each figure as PNG and SVG into `figures/` beside it.

    Args:
        path: of the page.
        template: its file in this folder; finds the figures as `pictures`, data URIs by name.
        figures: by name.
        values: what else the template shows.
        known: names of all figures that such a page can have. Those that an earlier page had and this one has not are removed; other
            files of the folder are not.
    """
    pictures = {}
    for name, figure in figures.items():
        for kind in ("png", "svg"):
            data = style.render(figure, kind)
            write_bytes(path.parent / "figures" / f"{name}.{kind}", data)
        pictures[name] = "data:image/svg+xml;base64," + base64.b64encode(data).decode()
    write_text(path, _environment().get_template(template).render(pictures=pictures, **values))
    for name in set(known) - set(pictures):
        for kind in ("png", "svg"):
            (path.parent / "figures" / f"{name}.{kind}").unlink(missing_ok=True)
    return path


def _environment() -> jinja2.Environment:
    """Templates of this folder, with the filters that write numbers; a name that a template does not know is an error."""
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.filters |= {
        "percent": lambda share, digits=1: _exact(share, formats.percent(share, digits)),
        "nats": lambda value: _exact(value, formats.nats(value)),
        "ratio": lambda value, digits=2: _exact(value, f"{value:.{digits}f}"),
        "count": lambda value: _exact(value, formats.count(value)),
        "size": lambda value: _exact(value, formats.size(value)),
        "signed": lambda value, digits: _exact(value, formats.signed(value, digits)),
        "plural": formats.plural,
        "duration": formats.duration,
    }
    return found


def _exact(value: float, shown: str) -> Markup:
    """A number as it is shown, with its exact value in the page."""
    return Markup('<data value="{}">{}</data>').format(repr(value), shown)
