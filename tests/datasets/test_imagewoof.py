"""The archive: downloaded, checked and unpacked, and nothing half-made left behind."""

import hashlib
import io
import re
import tarfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from helpers import budget
from woofkit.config import ConfigError
from woofkit.datasets import download, imagewoof
from woofkit.datasets.imagewoof import BREEDS, IMAGENET_INDEX, WNIDS, Archive, fetch_archive, find_folder, list_images

NUM_TRAIN, NUM_VAL = 20, 10


def jpeg(rng: np.random.Generator) -> bytes:
    file = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (96, 128, 3), dtype=np.uint8)).save(file, "JPEG")
    return file.getvalue()


def pack(files: dict[str, bytes]) -> bytes:
    """A .tgz with these files."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


@pytest.fixture
def files() -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    counts = {"train": NUM_TRAIN // 10, "val": NUM_VAL // 10}
    return {
        f"imagewoof2-160/{split}/{wnid}/{wnid}_{i}.JPEG": jpeg(rng)
        for split, count in counts.items()
        for wnid in WNIDS
        for i in range(count)
    }


class Server(ThreadingHTTPServer):
    """Serves one file; `cuts` says after how many bytes each of the first answers breaks off."""

    def __init__(self, content: bytes, cuts: tuple[int, ...] = (), ranges: bool = True):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.cuts, self.ranges = content, list(cuts), ranges
        self.slow = False
        self.asked: list[str | None] = []  # the Range header of each request

    def archive(self, **changes) -> Archive:
        settings = {
            "url": f"http://127.0.0.1:{self.server_port}/imagewoof2-160.tgz",
            "md5": hashlib.md5(self.content).hexdigest(),
            "folder": "imagewoof2-160",
            "num_train": NUM_TRAIN,
            "num_val": NUM_VAL,
        }
        return Archive(**settings | changes)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server, asked = self.server, self.headers.get("Range")
        server.asked.append(asked)
        if not self.path.endswith("/imagewoof2-160.tgz"):
            return self.send_error(404)
        start = start_of(asked) if asked and server.ranges else 0
        if start and start >= len(server.content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(server.content)}")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        if server.slow:
            time.sleep(1)
        rest = server.content[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        self.wfile.write(rest[: server.cuts.pop(0)] if server.cuts else rest)

    def log_message(self, *args) -> None:
        pass


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(download, "FIRST_PAUSE", 0)


@pytest.fixture
def serve():
    running = []

    def start(*args, **kwargs) -> Server:
        server = Server(*args, **kwargs)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        running.append(server)
        return server

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


def start_of(range_header: str) -> int:
    return int(re.fullmatch(r"bytes=(\d+)-", range_header)[1])


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_tables_agree_with_imagenet():
    info = pytest.importorskip("timm.data").ImageNetInfo()
    assert len(WNIDS) == len(BREEDS) == 10
    assert list(WNIDS) == sorted(WNIDS)
    for wnid, breed, index in zip(WNIDS, BREEDS, IMAGENET_INDEX, strict=True):
        assert info.index_to_label_name(index) == wnid
        assert breed in info.index_to_description(index)


def test_an_archive_is_downloaded_checked_and_unpacked(serve, files, tmp_path):
    folder = fetch_archive(serve(pack(files)).archive(), tmp_path)
    assert names(tmp_path) == ["imagewoof2-160"]
    assert folder == tmp_path / "imagewoof2-160"
    for name, content in files.items():
        assert (tmp_path / name).read_bytes() == content
    assert len(list_images(folder, "train")) == NUM_TRAIN
    assert len(list_images(folder, "val")) == NUM_VAL


def test_a_folder_that_is_there_is_not_downloaded_again(serve, files, tmp_path):
    server = serve(pack(files))
    fetch_archive(server.archive(), tmp_path)
    fetch_archive(server.archive(), tmp_path)
    assert len(server.asked) == 1


def test_a_wrong_md5_leaves_nothing_behind(serve, files, tmp_path):
    server = serve(pack(files))
    found = hashlib.md5(server.content).hexdigest()
    with pytest.raises(ConfigError, match=rf"imagewoof2-160.tgz.*expected md5:{'0' * 32} but got {found}"):
        fetch_archive(server.archive(md5="0" * 32), tmp_path)
    assert names(tmp_path) == []


def test_a_broken_download_goes_on_where_it_stopped(serve, files, tmp_path):
    server = serve(pack(files), cuts=(100_000, 50_000))
    fetch_archive(server.archive(), tmp_path)
    first, second, third = server.asked
    assert first is None
    assert (start_of(second), start_of(third)) == (100_000, 150_000)  # to the last byte


def test_a_later_call_goes_on_where_an_earlier_one_gave_up(serve, files, tmp_path):
    server = serve(pack(files), cuts=(100_000, *[0] * download.FRUITLESS))
    with pytest.raises(ConnectionError, match="go on from where it stopped"):
        fetch_archive(server.archive(), tmp_path)
    assert names(tmp_path) == ["imagewoof2-160.tgz.part"]
    fetch_archive(server.archive(), tmp_path)
    assert start_of(server.asked[-1]) == 100_000
    assert names(tmp_path) == ["imagewoof2-160"]


def test_of_two_at_once_one_downloads_and_the_other_waits_and_says_so(serve, files, tmp_path, capsys):
    server = serve(pack(files))
    server.slow = True
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda _: fetch_archive(server.archive(), tmp_path), range(2)))
    assert found == [tmp_path / "imagewoof2-160"] * 2
    assert len(server.asked) == 1
    said = rf"another process \(\d+ on .*\) downloads imagewoof2-160 to {tmp_path}: waiting for it"
    assert re.search(said, capsys.readouterr().out)


def test_the_partial_tree_of_a_killed_process_is_removed(serve, files, tmp_path):
    left = tmp_path / ".imagewoof2-160-abc" / "imagewoof2-160"
    left.mkdir(parents=True)
    (left / "half").write_bytes(b"")
    server = serve(pack(files))
    fetch_archive(server.archive(), tmp_path)
    assert names(tmp_path) == ["imagewoof2-160"]
    left.mkdir(parents=True)  # killed as all but this was done
    (tmp_path / "imagewoof2-160.tgz").write_bytes(server.content)
    fetch_archive(server.archive(), tmp_path)
    assert names(tmp_path) == ["imagewoof2-160"]


def test_a_server_without_ranges_sends_all_again(serve, files, tmp_path):
    server = serve(pack(files), cuts=(100_000,), ranges=False)
    fetch_archive(server.archive(), tmp_path)
    assert len(server.asked) == 2
    assert names(tmp_path) == ["imagewoof2-160"]


def test_a_complete_part_is_taken_as_it_is(serve, files, tmp_path):
    server = serve(pack(files))
    (tmp_path / "imagewoof2-160.tgz.part").write_bytes(server.content)
    fetch_archive(server.archive(), tmp_path)
    assert names(tmp_path) == ["imagewoof2-160"]


def test_a_part_of_another_file_gives_way(serve, files, tmp_path):
    server = serve(pack(files))
    (tmp_path / "imagewoof2-160.tgz.part").write_bytes(server.content + b"more")
    fetch_archive(server.archive(), tmp_path)
    assert names(tmp_path) == ["imagewoof2-160"]


def test_a_missing_file_is_named(serve, files, tmp_path):
    server = serve(pack(files))
    url = server.archive().url.replace("imagewoof2-160", "imagewoof9")
    with pytest.raises(ConnectionError, match="imagewoof9.tgz.*404.*set data_dir"):
        fetch_archive(server.archive(url=url), tmp_path)
    assert names(tmp_path) == []


@pytest.mark.parametrize("name", ["../evil.JPEG", "imagewoof2-160/../../evil.JPEG"])
def test_a_member_that_climbs_out_is_refused(serve, files, tmp_path, name):
    root = tmp_path / "data"
    with pytest.raises(ConfigError, match="was not unpacked.*evil.JPEG"):
        fetch_archive(serve(pack(files | {name: b"evil"})).archive(), root)
    assert names(root) == []
    assert names(tmp_path) == ["data"]


@pytest.mark.parametrize("circle", [("imagewoof2-160/a",), ("imagewoof2-160/a", "imagewoof2-160/b"), (".",)])
@pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.SYMTYPE])
def test_links_in_a_circle_are_refused(serve, tmp_path, circle, kind):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, link in zip(circle, circle[1:] + circle[:1], strict=True):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, link
            tar.addfile(member)
    with pytest.raises(ConfigError, match="imagewoof2-160"):
        fetch_archive(serve(packed.getvalue()).archive(), tmp_path)
    assert names(tmp_path) == []


PARTS = st.sampled_from(["..", ".", "", "imagewoof2-160", "train", "val", WNIDS[0], "evil", "CON", "a" * 300, "\u202e"])
KINDS = st.sampled_from(
    [tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE]
)


@budget(40)
@given(
    odd=st.lists(
        st.tuples(st.lists(PARTS, min_size=1, max_size=4), KINDS, st.lists(PARTS, max_size=3), st.integers(0, 9)),
        max_size=3,
    ),
    at=st.integers(0, 30),
    kept=st.floats(0.5, 1) | st.just(1.0),
)
def test_whatever_an_archive_holds_nothing_lands_outside_and_no_link_within(tmp_path_factory, odd, at, kept):
    places = [f"imagewoof2-160/{split}/{wnid}" for split in ("train", "train", "val") for wnid in WNIDS]
    whole = [(f"{place}/{number}.JPEG", tarfile.REGTYPE, "", b"x") for number, place in enumerate(places)]
    whole[at:at] = [("/".join(name), kind, "/".join(link), bytes(size)) for name, kind, link, size in odd]
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, kind, link, content in whole:
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.size = kind, link, len(content)
            tar.addfile(member, io.BytesIO(content))
    content = packed.getvalue()[: int(kept * len(packed.getvalue()))]
    outside = tmp_path_factory.mktemp("outside")
    root = outside / "data"
    root.mkdir()
    (root / "imagewoof2-160.tgz").write_bytes(content)
    archive = Archive(
        "http://127.0.0.1:9/imagewoof2-160.tgz", hashlib.md5(content).hexdigest(), "imagewoof2-160", NUM_TRAIN, NUM_VAL
    )
    with suppress(ConfigError):
        assert names(fetch_archive(archive, root)) == ["train", "val"] or odd
    assert names(outside) == ["data"]
    assert set(names(root)) <= {"imagewoof2-160"}
    assert not any(path.is_symlink() for path in root.rglob("*"))


def test_wrong_counts_are_told_and_leave_nothing(serve, files, tmp_path):
    message = "found 20 images in train/ and 10 in val/.*expected 9,025 and 3,929"
    with pytest.raises(ConfigError, match=message):
        fetch_archive(serve(pack(files)).archive(num_train=9025, num_val=3929), tmp_path)
    assert names(tmp_path) == []


def test_a_folder_may_be_given_itself_or_by_its_parent(serve, files, tmp_path, monkeypatch):
    archive = serve(pack(files)).archive()
    monkeypatch.setitem(imagewoof.ARCHIVES, "160", archive)
    folder = fetch_archive(archive, tmp_path)
    assert find_folder(str(folder), "160") == find_folder(str(tmp_path), "160") == folder
    (folder / "train" / WNIDS[0] / f"{WNIDS[0]}_0.JPEG").unlink()
    with pytest.raises(ConfigError, match="not a complete imagewoof2-160: found 19 images in train/"):
        find_folder(str(folder), "160")


def test_a_folder_of_another_size_is_refused(tmp_path):
    for split in ("train", "val"):
        (tmp_path / "imagewoof2-320" / split).mkdir(parents=True)
    with pytest.raises(ConfigError, match="imagewoof2-320.*image_variant is '160'.*'320'"):
        find_folder(str(tmp_path), "160")


def test_a_missing_folder_names_what_is_expected_in_it(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere' does not exist.*train/<wnid>/\*.JPEG"):
        find_folder(str(tmp_path / "nowhere"), "160")
    with pytest.raises(ConfigError, match="has no train/ and val/"):
        find_folder(str(tmp_path), "160")


def test_a_file_whose_name_is_no_text_is_refused_and_hidden_ones_do_not_count(tmp_path):
    place = tmp_path / "val" / WNIDS[0]
    place.mkdir(parents=True)
    for name in (b"a.JPEG", b"._a.JPEG"):
        open(bytes(place) + b"/" + name, "wb").close()
    assert list_images(tmp_path, "val") == [f"val/{WNIDS[0]}/a.JPEG"]
    open(bytes(place) + b"/\xe9.JPEG", "wb").close()
    with pytest.raises(ConfigError, match=rf"'val/{WNIDS[0]}/.*udce9.JPEG' has a name that is not UTF-8: rename it"):
        list_images(tmp_path, "val")
