"""Where a file lies whose path a person has typed or pasted."""

from pathlib import Path

from woofkit.config import PROJECT_ROOT


def own_path(text: str) -> Path:
    """Return the path of a file as it was typed: with quotes around it, "~", "file://", or relative.

    A relative path starts at the notebook's folder, where JupyterLab puts what is uploaded, or else at the project's.
    The file need not exist.
    """
    words = text.strip()
    if len(words) > 1 and words[0] == words[-1] and words[0] in "\"'":
        words = words[1:-1].strip()
    path = Path(words.removeprefix("file://")).expanduser()
    if path.is_absolute():
        return path
    here, project = Path.cwd() / path, PROJECT_ROOT / path
    return project if project.exists() and not here.exists() else here
