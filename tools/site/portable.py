"""Where a study was run is nobody's business: paths of the machine leave the pages."""

import re
import sys
import tempfile
from pathlib import Path

from woofkit.config import PROJECT_ROOT


def portable(page: str, runs: Path) -> str:
    """Return a page with the machine's folders cut short: `runs` to "runs", the project's to what lies within it.

    The folders of Python, of temporary files and of the user are named, not spelled out.
    """
    folders = {
        runs: "runs",
        PROJECT_ROOT: ".",
        Path(sys.prefix): "python",
        Path(tempfile.gettempdir()): "tmp",
        Path.home(): "~",
    }
    for folder, name in sorted(folders.items(), key=lambda item: -len(str(item[0]))):
        if folder != Path(folder.anchor) and str(folder) in page:
            # A picture's base64 has slashes, too: what follows one of its letters is no path.
            page = re.sub(rf"(?<![\w+/.~-]){re.escape(str(folder))}(?![\w.-])", name, page)
    return page
