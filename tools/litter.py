"""`python -m tools.litter FOLDER`: a folder of class folders with drawn dogs of invented breeds, to try things on.

What asks for pictures of one's own, `recommend`, `predict` or the profile `own`, can so be tried without any.
"""

from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from woofkit.__main__ import exit_status
from woofkit.config import ConfigError, require_range
from woofkit.sketch import draw_dog
from woofkit.sketch.litter import litter

SEED = 7  # the backbone has seen the litter of another one
SIZE = 256  # pixels


def write_litter(folder: Path, num_breeds: int, images: int) -> Path:
    """Draw `images` dogs of each of `num_breeds` invented breeds into `folder`, one folder per breed; return it.

    Raises:
        ConfigError: the folder is there already, or a number is out of range.
    """
    require_range("breeds", num_breeds, 2, 200)
    require_range("images", images, 1, 10_000)
    if folder.exists():
        raise ConfigError(f"{folder} is there already: name a folder that is not")
    for number, traits in enumerate(litter(num_breeds, SEED)):
        own = folder / f"breed {number + 1:0{len(str(num_breeds))}}"
        own.mkdir(parents=True)
        for index in range(images):
            drawing = draw_dog(traits, seed=SEED, index=number * images + index, size=SIZE)
            Image.fromarray(drawing.image).save(own / f"{index + 1}.png")
    return folder


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = ArgumentParser(prog="python -m tools.litter", description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--breeds", type=int, default=6, help="how many classes (default: %(default)s)")
    parser.add_argument("--images", type=int, default=20, help="how many of each (default: %(default)s)")
    options = parser.parse_args(arguments)
    return exit_status(lambda: print(write_litter(options.folder, options.breeds, options.images)))


if __name__ == "__main__":
    raise SystemExit(main())
