"""`python -m tools.copies lab|student|teacher|projector [FOLDER]`: copies to work in, hand out, teach with and show.

A copy stands in a folder directly below the project's, as the sources do, so that its links lead where theirs do; the
runs, the data and the weights are found from anywhere. The sources stay as they are.
"""

import hashlib
import json
import re
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from woofkit.config import PROJECT_ROOT, ConfigError
from woofkit.files import write_atomic
from woofkit.study import NOTEBOOKS_DIR

FOLDERS = {"lab": "work", "student": "work/student", "teacher": "work/teacher", "projector": "work/projector"}
SHOWN = {"parameters", "answer"}  # code that a projector shows, too
NAMED_BY = "woofkit_source"  # in a copy's metadata: the hash of the source that it was made from
CODE = re.compile(r"```python\n(.+?)\n```", flags=re.S)
BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"  # nbgrader takes out what stands between them


def make_copies(kind: str, folder: Path, sources: Path = NOTEBOOKS_DIR) -> list[str]:
    """Write the notebooks of `sources` to `folder` and return a line on each that was not simply copied.

    A "lab" copy that is there stays as it is; one whose source has changed since is named. The others are written anew
    each time: "student" leaves out the solutions, "teacher" puts them into the answer cells, "projector" folds code.

    Raises:
        ConfigError: the folder is a file, or holds the sources.
    """
    if folder.resolve() == sources.resolve() or (folder.exists() and not folder.is_dir()):
        raise ConfigError(f"{folder} cannot take copies: name a folder other than {sources.name}/")
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for source in sorted(sources.glob("*.ipynb")):
        notebook, copy = nbformat.read(source, as_version=4), folder / source.name
        if kind == "lab" and copy.exists():
            lines += _outdated(copy, notebook)
            continue
        notebook.metadata[NAMED_BY] = hash_source(notebook)
        notebook.cells = CHANGES[kind](notebook.cells)
        _link_from(notebook, folder, sources)
        write_atomic(copy, lambda temporary, notebook=notebook: nbformat.write(notebook, temporary))
    return lines


def hash_source(notebook: NotebookNode) -> str:
    """SHA-256 of what a notebook says, cell by cell; outputs do not count."""
    said = [(cell.cell_type, cell.source) for cell in notebook.cells]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def without_solutions(cells: Sequence[NotebookNode]) -> list[NotebookNode]:
    """The cells but those tagged "solution"."""
    return [cell for cell in cells if "solution" not in _tags(cell)]


def with_solutions(cells: Sequence[NotebookNode]) -> list[NotebookNode]:
    """The cells, with each solution's code in its answer cell, between nbgrader's marks."""
    solved, answer = [], None
    for cell in cells:
        solved.append(cell)
        if "answer" in _tags(cell):
            answer = cell
        elif "solution" in _tags(cell) and answer is not None:
            answer.source += f"\n\n{BEGIN}\n{CODE.search(cell.source)[1]}\n{END}"
            answer = None
    return solved


def code_folded(cells: Sequence[NotebookNode]) -> list[NotebookNode]:
    """The cells, with the code folded away but for parameters and answers; JupyterLab opens it at a click."""
    for cell in cells:
        if cell.cell_type == "code" and not SHOWN.intersection(_tags(cell)):
            cell.metadata.setdefault("jupyter", {})["source_hidden"] = True
    return list(cells)


CHANGES = {"lab": list, "student": without_solutions, "teacher": with_solutions, "projector": code_folded}


def _tags(cell: NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def _outdated(copy: Path, source: NotebookNode) -> list[str]:
    """A line if the copy was made from another source than today's."""
    try:
        made_from = nbformat.read(copy, as_version=4).metadata.get(NAMED_BY)
    except Exception as error:  # nbformat raises many kinds for a file that is no notebook
        return [f"{copy.name}: your copy cannot be read ({type(error).__name__}); rename it, and a new one is made."]
    if made_from == hash_source(source):
        return []
    return [f"{copy.name}: the source has changed since your copy was made; rename your copy, and a new one is made."]


def _link_from(notebook: NotebookNode, folder: Path, sources: Path) -> None:
    """Let links to the project's other pages lead there from a folder that lies deeper."""
    try:
        depth = len(folder.resolve().relative_to(sources.resolve().parent).parts)
    except ValueError:
        return  # a folder outside the project: nothing lies beside it
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and depth > 1:
            cell.source = cell.source.replace("](../", "](" + "../" * depth)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 0, or 2 after a refusal."""
    parser = ArgumentParser(prog="python -m tools.copies", description="Write copies of the notebooks.")
    parser.add_argument(
        "kind", choices=FOLDERS, help="to work in, to hand out, with the solutions filled in, or to show"
    )
    parser.add_argument("folder", nargs="?", help="where to write them (default: %(default)s)", default="")
    options = parser.parse_args(arguments)
    folder = Path(options.folder).expanduser() if options.folder else PROJECT_ROOT / FOLDERS[options.kind]
    try:
        lines = make_copies(options.kind, folder)
    except (ConfigError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n".join([*lines, f"The notebooks are in {options.folder or FOLDERS[options.kind]}/."]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
