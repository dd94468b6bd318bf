"""Builds the documentation as a static site: make docs (.ci/docs.py [FOLDER]) writes README, guides and the API reference to
build/docs, or to another folder.

A guide keeps its place in the repository (decouple/data/README.md becomes decouple/data/index.html), so that its relative links hold.
The reference is pdoc's. The build fails if pdoc warns, or if a link leads nowhere.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
import shutil
import sys
import warnings
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import jinja2
import pdoc
import pdoc.render
import pdoc.render_helpers

import decouple

ROOT = Path(__file__).parents[1]
SITE = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else ROOT / "build" / "docs"
GUIDES = ["README.md", *re.findall(r"^\| \[[^\]]*\]\(([^)]*\.md)\)", (ROOT / "README.md").read_text(), re.MULTILINE)]
"""README and the guides that its table lists."""
LINK = re.compile(r"(!?\[[^\]]*\]\()([^)#\s]+)((?:#[^)]*)?\))")

TEMPLATES = {
    "guide.html.jinja2": """
{% extends "frame.html.jinja2" %}
{% block title %}{{ title }}{% endblock %}
{% block style %}{{ super() }}
<style>
main.pdoc { width: calc(80rem + var(--sidebar-width, 0rem)); }
main.pdoc :is(p, ul, ol) { max-width: 54rem; }
main.pdoc img { max-width: 100%; }
main.pdoc table { display: block; overflow-x: auto; }
</style>
{% endblock %}
{% block nav %}<h2>decouple</h2>
<ul>{% for name, page in pages %}<li><a href="{{ up }}{{ page }}">{{ name }}</a></li>{% endfor %}</ul>{% endblock %}
{% block content %}
<main class="pdoc"><section class="module-info"><div class="docstring">{{ body | safe }}</div></section></main>
{% endblock %}
""",
    "module.html.jinja2": """
{% extends "default/module.html.jinja2" %}
{% block nav_title %}{{ super() }}
{% set name = module.fullname %}{% set depth = name.count(".") %}
<p>{% if name.replace(".", "/") ~ "/README.md" in guides %}
<a href="{{ name.split('.')[-1] }}/index.html">Guide to {{ name }}</a><br>
{% endif %}
<a href="{{ '../' * depth }}index.html">All guides</a></p>
<ul>{% for each in all_modules if each.startswith(name + ".") and each.count(".") == depth + 1 %}
<li><a href="{{ name.split('.')[-1] }}/{{ each.split('.')[-1] }}.html">{{ each }}</a></li>
{% endfor %}</ul>
{% endblock %}
""",
}


def page_of(guide: str) -> str:
    """Where the site has a guide."""
    return re.sub(r"README\.md$", "index.html", guide).replace(".md", ".html")


def title_of(guide: str) -> str:
    return (ROOT / guide).read_text().splitlines()[0].removeprefix("# ")


def as_page(guide: str) -> str:
    """A guide as HTML. What it links to is copied, or is a page of the site already."""

    def followed(link: re.Match[str]) -> str:
        before, file, after = link.groups()
        target = (ROOT / guide).parent / file
        name = str(target.resolve().relative_to(ROOT)) if "://" not in file else ""
        if name in GUIDES:
            file = page_of(file)
        elif name.endswith(".py") and (SITE / name).with_suffix(".html").exists():
            file = file.replace(".py", ".html")
        elif name and target.is_file():
            (SITE / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(target, SITE / name)
        return before + file + after

    text = LINK.sub(followed, (ROOT / guide).read_text())
    body = pdoc.render_helpers.to_html(text)
    up = "../" * guide.count("/")
    guides = [(title_of(each), page_of(each)) for each in GUIDES[1:]]
    pages = [("Overview", "index.html"), *guides, ("API reference", "decouple.html")]
    return pdoc.render.env.get_template("guide.html.jinja2").render(title=title_of(guide), body=body, pages=pages, up=up)


class _Page(HTMLParser):
    """Collects what a page links to, and the places in it that can be linked to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("href", "src") and value and not urlsplit(value).scheme:
                self.links.add(unquote(value))
            elif name == "id" and value:
                self.ids.add(value)


def modules() -> list[str]:
    """All that a user may import and that pdoc does not find by itself: it passes over modules that `__all__` does not name."""
    names = [module.name for module in pkgutil.walk_packages(decouple.__path__, "decouple.")]
    hidden = [name for name in names if name.rpartition(".")[2] not in _named(name.rpartition(".")[0])]
    return ["decouple", *(name for name in hidden if not re.search(r"\.(_|cli\b)", name))]


def _named(package: str) -> list[str]:
    """What pdoc looks for in a package."""
    found = importlib.import_module(package)
    return list(getattr(found, "__all__", [module.name for module in pkgutil.iter_modules(found.__path__)]))


def unlink_inherited(file: Path) -> None:
    """Make plain text of links to members that a class inherits from torch: pdoc links them and does not describe them."""
    text = file.read_text()
    ids = _Page(text).ids
    file.write_text(re.sub(r'<a href="#([\w.]+)">(.*?)</a>', lambda link: link[0] if link[1] in ids else link[2], text))


def broken() -> list[str]:
    """Every link of the site that leads nowhere."""
    pages = {file: _Page(file.read_text()) for file in sorted(SITE.rglob("*.html"))}
    found = []
    for file, page in pages.items():
        for link in sorted(page.links):
            name, _, anchor = link.partition("#")
            target = (file.parent / name).resolve() if name else file
            if not target.exists() or (anchor and target in pages and anchor not in pages[target].ids):
                found.append(f"{file.relative_to(SITE)}: {link}")
    return found


def main() -> int:
    if SITE == ROOT / "build" / "docs":  # nothing of anybody else's is removed
        shutil.rmtree(SITE, ignore_errors=True)
    vars(decouple).update({name: getattr(decouple, name) for name in decouple.__all__})  # which it imports on first use
    pdoc.render.configure(docformat="google")
    pdoc.render.env.globals["guides"] = GUIDES
    loaders = [jinja2.DictLoader(TEMPLATES), pdoc.render.env.loader]
    pdoc.render.env.loader = jinja2.ChoiceLoader([loader for loader in loaders if loader])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "`torch.jit.*` is deprecated")  # EvoTorch scripts a function when it is imported
        # pdoc shows the annotations of named tuples, and of fields that come from another module's class, as they are written.
        warnings.filterwarnings("ignore", "Error parsing type annotation")
        # torch annotates attributes of tensors that it does not define.
        warnings.filterwarnings("ignore", "Cannot determine where .* is taken from")
        pdoc.pdoc(*modules(), output_directory=SITE)
    for file in SITE.rglob("*.html"):
        unlink_inherited(file)
    for guide in GUIDES:
        (SITE / page_of(guide)).parent.mkdir(parents=True, exist_ok=True)
        (SITE / page_of(guide)).write_text(as_page(guide))
    wrong = broken()
    print(*wrong, f"{SITE / 'index.html'}: {len(wrong)} broken links", sep="\n")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
