"""The picture of the package in docs/architecture.md: its rooms on their floors, with the imports as they are.

`python -m tools.rooms` draws figures/architecture.png; the floors are those of the layers contract in pyproject.toml.
"""

import ast
import re
import textwrap
import tomllib
from pathlib import Path

import grimp
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from woofkit.config import PROJECT_ROOT
from woofkit.plots import save_figure, use_style

CORE = ("config", "data", "models", "lora", "adapters", "train", "attention", "results")
CORE_COLOR, ROOM_COLOR, ARROW_COLOR = "#d7e6f5", "#f1efe9", "#4a4a4a"
WIDTH, GAP, HEIGHT = 12.0, 0.12, 0.74  # of the picture, between boxes, of a box; floors are 1 apart


def read_floors() -> list[list[str]]:
    """The rooms of each floor, from the top down, as the import contract names them."""
    contracts = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    return [layer.split(" | ") for layer in layers]


def count_lines(room: str) -> int:
    """The lines of a room: of its file, or of all files in its folder."""
    path = PROJECT_ROOT / "woofkit" / room
    files = path.glob("*.py") if path.is_dir() else [path.with_suffix(".py")]
    return sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files)


def read_imports(rooms: list[str]) -> set[tuple[str, str]]:
    """Which room imports which, functions included: (importer, imported) pairs."""
    graph = grimp.build_graph("woofkit")
    pairs = set()
    for importer in graph.modules:
        for imported in graph.find_modules_directly_imported_by(importer):
            pair = tuple((name.split(".") + [""])[1] for name in (importer, imported))
            if pair[0] != pair[1] and set(pair) <= set(rooms):
                pairs.add(pair)
    return pairs


def describe(room: str) -> str:
    """The first words of a room's docstring, up to the first colon, semicolon, bracket or full stop."""
    path = PROJECT_ROOT / "woofkit" / room
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return re.split(r"[:;(]|\.(?:\s|$)", text)[0].strip()


def draw_rooms() -> Figure:
    """Draw every room on its floor, the core in blue, and an arrow for every import, all of which run down."""
    floors = read_floors()
    figure, axes = plt.subplots(figsize=(WIDTH, 0.8 * len(floors)), layout="constrained")
    places: dict[str, tuple[float, float]] = {}
    for floor, rooms in enumerate(floors):
        width = min(3.9, (WIDTH - GAP * (len(rooms) - 1)) / len(rooms))
        left = (WIDTH - width * len(rooms) - GAP * (len(rooms) - 1)) / 2
        for number, room in enumerate(rooms):
            x, y = left + number * (width + GAP), float(len(floors) - floor)
            places[room] = (x + width / 2, y)
            _draw_room(axes, room, (x, y), width)
    for importer, imported in sorted(read_imports(list(places))):
        (x, y), (to_x, to_y) = places[importer], places[imported]
        bend = 0.0 if abs(y - to_y) <= 1 else 0.12 if to_x >= x else -0.12
        arrow = FancyArrowPatch((x, y - HEIGHT / 2), (to_x, to_y + HEIGHT / 2), connectionstyle=f"arc3,rad={bend}")
        arrow.set(arrowstyle="-|>", mutation_scale=7, color=ARROW_COLOR, alpha=0.22, linewidth=0.8, zorder=1)
        axes.add_patch(arrow)
    axes.set(xlim=(-0.1, WIDTH + 0.1), ylim=(0.4, len(floors) + 0.6))
    axes.axis("off")
    return figure


def _draw_room(axes: Axes, room: str, corner: tuple[float, float], width: float) -> None:
    x, y = corner
    color = CORE_COLOR if room in CORE else ROOM_COLOR
    box = FancyBboxPatch((x, y - HEIGHT / 2), width, HEIGHT, boxstyle="round,pad=0,rounding_size=0.08")
    box.set(facecolor=color, edgecolor="#7d7d7d", linewidth=0.8, zorder=2)
    axes.add_patch(box)
    name = f"{room}/" if (PROJECT_ROOT / "woofkit" / room).is_dir() else f"{room}.py"
    words = "\n".join(textwrap.wrap(describe(room), 46)[:2])
    texts = ((y + 0.2, f"{name}  {count_lines(room):,}", 11, "bold"), (y - 0.12, words, 8.5, "normal"))
    for height, text, size, weight in texts:
        axes.text(x + width / 2, height, text, ha="center", va="center", fontsize=size, weight=weight, zorder=3)


def main(folder: Path = PROJECT_ROOT / "figures") -> Path:
    """Draw the picture into a folder; return the file."""
    use_style()
    return save_figure(draw_rooms(), folder, "architecture")


if __name__ == "__main__":
    print(main())
