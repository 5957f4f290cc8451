"""Any picture comes out as a person sees it, small enough for memory, or its file is named in one sentence."""

import io
import re
import struct
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from helpers import budget
from woofkit.datasets.pictures import (
    FORMATS,
    LONGEST,
    PIXELS,
    in_processes,
    pictures_below,
    read_picture,
    why_unreadable,
)

RED = (200, 30, 30)


def written(tmp_path, image, name, **options):
    image.save(tmp_path / name, **options)
    return np.asarray(read_picture(tmp_path / name))


def test_the_cameras_orientation_is_applied(tmp_path):
    image = Image.new("RGB", (40, 20), RED)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    assert written(tmp_path, image, "a.jpg", exif=exif).shape == (40, 20, 3)


def test_transparency_lies_on_white(tmp_path):
    image = Image.new("RGBA", (8, 8), (*RED, 0))
    image.putpixel((0, 0), (*RED, 255))
    pixels = written(tmp_path, image, "a.png")
    assert pixels[0, 0].tolist() == list(RED)
    assert pixels[5, 5].tolist() == [255, 255, 255]
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([*RED, 0, 0, 255])
    assert written(tmp_path, palette, "b.png", transparency=0)[0, 0].tolist() == [255, 255, 255]
    assert written(tmp_path, palette, "c.png")[0, 0].tolist() == list(RED)
    assert written(tmp_path, Image.new("LA", (8, 8), (50, 255)), "d.png")[0, 0].tolist() == [50, 50, 50]


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bits_are_scaled_by_their_range(tmp_path, name):
    image = Image.fromarray(np.full((8, 8), 32768, np.uint16))
    assert written(tmp_path, image, name)[0, 0].tolist() == [128, 128, 128]


def test_floats_are_scaled_by_what_they_hold(tmp_path):
    pixels = written(tmp_path, Image.fromarray(np.linspace(-3, 5, 64, dtype=np.float32).reshape(8, 8)), "a.tif")
    assert (pixels.min(), pixels.max()) == (0, 255)


def test_print_colours_grey_and_animations_come_as_rgb(tmp_path):
    cyan = written(tmp_path, Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "a.jpg")[0, 0]
    assert cyan[0] < 60 < 180 < cyan[2]
    assert written(tmp_path, Image.new("L", (8, 8), 77), "a.bmp")[0, 0].tolist() == [77, 77, 77]
    frames = [Image.new("RGB", (8, 8), color) for color in (RED, (0, 0, 255))]
    first = written(tmp_path, frames[0], "a.webp", save_all=True, append_images=frames[1:], lossless=True)
    assert first[0, 0].tolist() == list(RED)


def test_a_number_that_is_none_is_dark(tmp_path):
    values = np.full((8, 8), 2.0, np.float32)
    values[0], values[1, 0], values[2, 0] = -1.0, np.nan, np.inf
    pixels = written(tmp_path, Image.fromarray(values), "a.tif")[..., 0]
    assert pixels[:3, 0].tolist() == [0, 0, 0]
    assert (pixels[3:] == 255).all()
    assert not written(tmp_path, Image.fromarray(np.full((8, 8), np.nan, np.float32)), "b.tif").any()


# --- refused, by name ---


def refusal(path):
    with pytest.raises(OSError, match=rf"^{re.escape(str(path))} cannot be read \(.+\)$") as refused:
        read_picture(path)
    return why_unreadable(path, refused.value)


def png_header(width, height):
    """A PNG that says how large it is, and holds no pixel."""
    parts = [b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0), b"IDAT"]
    chunks = [struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in parts]
    return b"".join([b"\x89PNG\r\n\x1a\n", *chunks])


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "it is no JPEG, PNG, WEBP, BMP, TIFF or GIF"),
        (b"odd", "it is no JPEG, PNG, WEBP, BMP, TIFF or GIF"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "it is no JPEG, PNG, WEBP, BMP, TIFF or GIF"),
        (b"P6 x", "it is no JPEG, PNG, WEBP, BMP, TIFF or GIF"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "it is HEIC, AVIF or a film: export it as JPEG"),
        (png_header(1, 60_000), f"1 x 60000 pixels: allowed is one side {LONGEST} times as long as the other"),
        (png_header(60_000, 1), f"60000 x 1 pixels: allowed is one side {LONGEST} times as long as the other"),
        (png_header(9_000, 9_000), f"9000 x 9000 pixels: allowed are {PIXELS // 10**6} million"),
    ],
    ids=["empty", "odd", "eps", "ppm", "heic", "high", "wide", "large"],
)
def test_what_is_no_picture_or_too_large_is_named(tmp_path, content, why):
    (tmp_path / "odd (1).png").write_bytes(content)
    assert refusal(tmp_path / "odd (1).png") == why


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_bomb_is_refused_before_it_is_decoded(tmp_path):
    for side in (10_000, 60_000, 2**30):
        (tmp_path / "bomb.png").write_bytes(png_header(side, side))
        assert "pixels" in refusal(tmp_path / "bomb.png")


def test_what_the_system_says_is_passed_on(tmp_path):
    assert refusal(tmp_path / "none.png") == "No such file or directory"
    assert refusal(tmp_path) == "Is a directory"


def test_pictures_of_a_folder_are_visible_files(tmp_path):
    names = ["a.JPG", "b/c.webp", "IMG_1.HEIC"]
    for name in [*names, "._a.JPG", ".hidden.png", ".thumbs/a.png", "__MACOSX/a.png", "notes.txt", "a.pdf"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.relative_to(tmp_path).as_posix() for path in pictures_below(tmp_path)] == sorted(names)


def encoded(kind):
    """A small picture in one of the formats, with EXIF where it can hold some."""
    values = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    Image.fromarray(values).save(file, kind, **({"exif": exif} if kind in ("JPEG", "PNG", "WEBP", "TIFF") else {}))
    return file.getvalue()


WHOLE = {kind: encoded(kind) for kind in FORMATS}


@budget(150, derandomize=True)
@given(
    kind=st.sampled_from(FORMATS),
    changes=st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=8)), max_size=4),
    kept=st.floats(0.1, 1),
    name=st.sampled_from(["a.png", "b.jpg", "c.tif", "d"]),
)
@pytest.mark.filterwarnings("ignore")
def test_whatever_a_file_holds_it_is_a_picture_or_it_is_named(tmp_path, kind, changes, kept, name):
    content = bytearray(WHOLE[kind])
    for place, new in changes:
        at = int(place * len(content))
        content[at : at + len(new)] = new
    path = tmp_path / name
    path.write_bytes(content[: int(kept * len(content))])
    if isinstance(read := picture_or_error(path), OSError):
        assert str(read).startswith(f"{path} cannot be read (")
        assert "\n" not in str(read)
    else:
        assert read.mode == "RGB"
        assert read.width * read.height <= PIXELS


def picture_or_error(path):
    try:
        return read_picture(path)
    except OSError as error:
        return error


def test_without_shared_memory_no_other_processes_read(monkeypatch):
    monkeypatch.setattr("torch.get_num_threads", lambda: 2)
    assert in_processes("abc", 2, few=1).num_workers == 2
    assert in_processes("abc", 2, few=3).num_workers == 0
    monkeypatch.setattr("woofkit.faults.shutil.disk_usage", lambda path: SimpleNamespace(free=4096))
    assert list(in_processes("abc", 2, few=1)) == [["a", "b"], ["c"]]
