"""The law of the site: a page holds all it shows, runs nothing, and its links within the site lead somewhere."""

import re
from collections.abc import Collection
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

from woofkit.config import ConfigError

LOADS = ("src", "srcset", "poster", "data", "background", "xlink:href")  # attributes that fetch what they name
REACHES = re.compile(r"@import\b|url\(\s*['\"]?(?!data:|#)", re.IGNORECASE)


class _References(HTMLParser):
    """Collects what is wrong with a page, and its links."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.faults: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.in_style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.in_style = tag == "style"
        if tag in ("script", "iframe", "object", "embed", "base"):
            self.faults.append(f"has a <{tag}>")
        for name, value in attrs:
            value = value or ""
            if name in LOADS and not value.startswith("data:"):
                self.faults.append(f"loads {value[:80]!r} (<{tag} {name}>)")
            elif name == "href" and tag in ("a", "area"):
                self.links.append(value)
            elif name == "href" and not value.startswith(("data:", "#")):
                self.faults.append(f"loads {value[:80]!r} (<{tag} href>)")
            elif name == "id":
                self.anchors.add(value)
            elif name.startswith("on"):
                self.faults.append(f"runs a script ({name} of <{tag}>)")
            elif name == "style" and REACHES.search(value):
                self.faults.append(f"loads what its style names: {value[:80]!r}")

    def handle_data(self, data: str) -> None:
        if self.in_style and (found := REACHES.search(data)):
            self.faults.append(f"loads what its style names: {data[found.start() : found.start() + 80]!r}")

    def handle_endtag(self, tag: str) -> None:
        self.in_style = False


def check_self_contained(name: str, page: str, pages: Collection[str]) -> None:
    """Check that a page needs nothing but itself: no file, no network, no script, no link to a page that is not there.

    Raises ConfigError that names the page and what it reaches for. Links to the web may stay: they are followed by
    hand.
    """
    found = _References()
    found.feed(page)
    found.close()
    for link in found.links:
        parts = urlsplit(link)
        if not parts.scheme and not parts.netloc:
            if parts.path and unquote(parts.path) not in pages:
                found.faults.append(f"links to {link!r}, which is not in the report")
            elif not parts.path and parts.fragment and unquote(parts.fragment) not in found.anchors:
                found.faults.append(f"links to {link!r}, a place that it does not have")
        elif parts.scheme not in ("http", "https", "mailto"):
            found.faults.append(f"links to {link[:80]!r}: allowed are pages of the report, http, https and mailto")
    if found.faults:
        raise ConfigError(
            f"{name} {'; '.join(dict.fromkeys(found.faults))}: a report holds all it shows, as data: URIs, and runs"
            " nothing; change the cell and run the notebook again"
        )
