"""Write the site of a finished study: every page is made and checked before one is written, and all appear at once."""

import os
import secrets
import shutil
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from tools.site.contents import contents_page
from tools.site.pages import notebook_page, read_executed
from tools.site.portable import portable
from tools.site.self_contained import check_self_contained
from woofkit.config import resolve_path
from woofkit.study import NOTEBOOKS, read_study_table

SITE = "report"  # the folder's name in the study's


def write_site(profile: str = "demo", runs_dir: str = "runs") -> Path:
    """Make the site of an executed study in runs_dir/profile/report and return its contents page.

    What breaks off leaves the site that was there, whole, or none. Raises ConfigError, before anything is written, if
    the study is not finished, has a formula that cannot be drawn, or shows what does not lie in its notebooks.
    """
    runs = resolve_path(runs_dir)
    study = runs / profile
    results = read_study_table(study, profile)
    notebooks = [read_executed(study / "notebooks" / f"{name}.ipynb") for name in NOTEBOOKS]
    pages = {f"{executed.name}.html": notebook_page(executed, notebooks, profile) for executed in notebooks}
    pages["index.html"] = contents_page(notebooks, results, study / "figures", profile, datetime.now().astimezone())
    pages = {name: portable(page, runs) for name, page in pages.items()}
    for name, page in pages.items():
        check_self_contained(name, page, pages)
    write_folder(study / SITE, pages)
    return study / SITE / "index.html"


def write_folder(folder: Path, files: Mapping[str, str]) -> None:
    """Write text files into a folder that replaces the one of that name, whole; if that fails, the old one stays."""
    mark = f"{os.getpid()}-{secrets.token_hex(4)}.tmp"
    new, old = (folder.with_name(f".{folder.name}.{word}.{mark}") for word in ("new", "old"))
    try:
        new.mkdir(parents=True)
        for name, text in files.items():
            (new / name).write_text(text, encoding="utf-8")
        if folder.exists():
            os.replace(folder, old)  # a folder cannot replace one that is not empty
        os.replace(new, folder)
    finally:
        if old.exists() and not folder.exists():
            os.replace(old, folder)
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
