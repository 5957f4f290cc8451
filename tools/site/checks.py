"""The laws of the site: a page holds all it shows, runs nothing, links to what exists, and names no folder."""

import re
import sys
import tempfile
from collections.abc import Collection
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from woofkit.config import PROJECT_ROOT, ConfigError

LOADS = ("src", "srcset", "poster", "data", "background", "xlink:href", "href")  # attributes that fetch what they name
REACHES = re.compile(r"(?:@import\b|url\(\s*['\"]?(?!data:|#)).{,80}", re.IGNORECASE)
ALLOWED = "places of the page, pages of the site"
WEB = ("http", "https", "mailto")  # where a link may lead: it is followed by hand


def portable(page: str, runs: Path) -> str:
    """Return a page with the machine's folders cut short: `runs` to "runs", the project's to what lies within it.

    The folders of Python, of temporary files and of the user are named, not spelled out.
    """
    folders = {runs: "runs", PROJECT_ROOT: ".", Path(sys.prefix): "python"}
    folders |= {Path(tempfile.gettempdir()): "tmp", Path.home(): "~"}
    for folder, name in sorted(folders.items(), key=lambda item: -len(str(item[0]))):
        if folder != Path(folder.anchor):
            # A picture's base64 has slashes, too: what follows one of its letters is no path.
            page = re.sub(rf"(?<![\w+/.~-]){re.escape(str(folder))}(?![\w.-])", name, page)
    return page


def check_self_contained(name: str, page: str, pages: Collection[str]) -> None:
    """Check that a page needs nothing but itself: no file, no network, no script, no link to a page that is not there.

    Raises ConfigError that names the page and what it reaches for.
    """
    found = _References()
    found.feed(page)
    found.close()
    for link in found.links:
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            allowed = parts.scheme in ("", *WEB)
        else:
            allowed = unquote(parts.path) in pages if parts.path else unquote(parts.fragment) in found.anchors
        if not allowed:
            found.faults.append(f"links to {link[:80]!r}: allowed are {ALLOWED}, {', '.join(WEB)}")
    if found.faults:
        raise ConfigError(
            f"{name} {'; '.join(dict.fromkeys(found.faults))}: a page of the site holds all it shows, as data: URIs,"
            " and runs nothing; change the cell and run the notebook again"
        )


class _References(HTMLParser):
    """Collects what a page loads and runs (faults), its links, and the places that it has (anchors)."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.faults: list[str] = []
        self.links: list[str] = []
        self.anchors = {""}  # "#" is the top of the page

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "iframe", "object", "embed", "base"):
            self.faults.append(f"has a <{tag}>")
        for name, value in attrs:
            value = value or ""
            if name == "href" and tag in ("a", "area"):
                self.links.append(value)
            elif name in LOADS and not value.startswith(("data:", "#")):
                self.faults.append(f"loads {value[:80]!r} (<{tag} {name}>)")
            elif name == "id":
                self.anchors.add(value)
            elif name == "style":
                self._check_style(value)
            elif name.startswith("on"):
                self.faults.append(f"runs a script ({name} of <{tag}>)")

    def handle_data(self, data: str) -> None:
        if self.cdata_elem == "style":
            self._check_style(data)

    def _check_style(self, style: str) -> None:
        self.faults += [f"loads what its style names: {found!r}" for found in REACHES.findall(style)]
