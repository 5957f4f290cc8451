"""Servers, proxies and lines that misbehave: nothing wrong is taken, and nothing that came is lost."""

import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from woofkit.config import ConfigError
from woofkit.datasets import download as module
from woofkit.datasets.download import download, require_network

CONTENT = b"\x1f\x8b" + bytes(range(256)) * 40
MOST = 100_000


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(module, "FIRST_PAUSE", 0)


@pytest.fixture
def serve():
    """Start a server whose requests `answer(handler, start)` answers; start is 0, or where the Range begins."""
    running = []

    def begin(answer):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                asked = self.headers.get("Range", "bytes=0-")
                self.server.asked.append(self.path)
                answer(self, int(asked[6:-1]))

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.asked = []
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        running.append(server)
        server.url = f"http://127.0.0.1:{server.server_port}/a.tgz"
        return server

    yield begin
    for server in running:
        server.shutdown()
        server.server_close()


def reply(handler, status, body, length=None, **headers):
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    handler.end_headers()
    handler.wfile.write(body)


def rest(handler, start, size=None, **headers):
    """What a good server sends, or the first `size` bytes of it."""
    body = CONTENT[start:]
    span = {"Content_Range": f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"} if start else {}
    reply(handler, 206 if start else 200, body[:size], len(body), **span | headers)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.tgz"


def part(path):
    return path.with_name("a.tgz.part")


def test_a_line_that_breaks_after_every_few_bytes_still_makes_progress(serve, path):
    server = serve(lambda handler, start: rest(handler, start, size=700))
    download(server.url, path, MOST)
    assert path.read_bytes() == CONTENT
    assert len(server.asked) == -(-len(CONTENT) // 700)


def test_a_line_that_lets_next_to_nothing_through_is_given_up_and_what_came_is_kept(serve, path, monkeypatch):
    monkeypatch.setattr(module, "SILENCE", 0.2)

    def trickle(handler, start):
        rest(handler, start, size=1)
        for position in range(start + 1, start + 100):
            time.sleep(0.02)
            handler.wfile.write(CONTENT[position : position + 1])

    server = serve(trickle)
    begin = time.monotonic()
    with pytest.raises(ConnectionError, match=r"^the server sent \d+ bytes in 0 s$"):
        download(server.url, path, MOST)
    assert time.monotonic() - begin < 10
    assert len(server.asked) == module.FRUITLESS
    assert part(path).read_bytes() == CONTENT[: part(path).stat().st_size] != b""


def test_a_line_that_is_slow_for_a_while_is_taken_up_where_it_was(serve, path, monkeypatch):
    monkeypatch.setattr(module, "SILENCE", 0.2)
    starts = []

    def answer(handler, start):
        starts.append(start)
        if len(starts) > 2:
            return rest(handler, start)
        rest(handler, start, size=3)
        time.sleep(0.4)
        handler.wfile.write(CONTENT[start + 3 : start + 4])

    download(serve(answer).url, path, MOST)
    assert path.read_bytes() == CONTENT
    assert starts[0] < starts[1] < starts[2]


@pytest.mark.parametrize("start", [0, 5000])
def test_a_page_that_wants_a_sign_in_is_recognised_and_what_came_before_is_kept(serve, path, start):
    if start:
        part(path).write_bytes(CONTENT[:start])
    server = serve(lambda handler, _: reply(handler, 200, b"<html>Sign in</html>", Content_Type="text/html"))
    with pytest.raises(ConnectionError, match=r"no archive \(text/html\). A network that wants you to sign in"):
        download(server.url, path, MOST)
    assert len(server.asked) == 1
    assert part(path).exists() == bool(start)
    if start:
        assert part(path).read_bytes() == CONTENT[:start]


@pytest.mark.parametrize("span", ["bytes 0-9/10", "bytes 4999-10241/10242", "", "nonsense"])
def test_only_the_range_that_was_asked_for_is_appended(serve, path, span):
    part(path).write_bytes(CONTENT[:5000])
    server = serve(lambda handler, start: reply(handler, 206, CONTENT[:10], Content_Range=span))
    with pytest.raises(ConnectionError, match="another range than it was asked for"):
        download(server.url, path, MOST)
    assert part(path).read_bytes() == CONTENT[:5000]
    assert len(server.asked) == module.FRUITLESS


@pytest.mark.parametrize("status", [500, 503, 429, 416])
def test_what_may_pass_is_tried_again(serve, path, status):
    states = [status, status]

    def answer(handler, start):
        if states:
            return reply(handler, states.pop(), b"")
        return rest(handler, start)

    part(path).write_bytes(CONTENT[:100])
    download(serve(answer).url, path, MOST)
    assert path.read_bytes() == CONTENT


def test_what_will_not_pass_is_not(serve, path):
    server = serve(lambda handler, start: reply(handler, 403, b""))
    with pytest.raises(ConnectionError, match="403"):
        download(server.url, path, MOST)
    assert len(server.asked) == 1
    assert not list(path.parent.iterdir())


@pytest.mark.parametrize("told", [True, False])
def test_an_answer_without_end_is_refused(serve, path, told):
    def answer(handler, start):
        handler.send_response(200)
        if told:
            handler.send_header("Content-Length", "99999999999")
        handler.end_headers()
        handler.wfile.write(b"\x1f\x8b" + bytes(2 * MOST))

    with pytest.raises(ConfigError, match="is larger than it should be"):
        download(serve(answer).url, path, MOST)
    assert not list(path.parent.iterdir())


def test_a_length_that_is_no_number_is_passed_over(serve, path):
    server = serve(lambda handler, start: reply(handler, 200, CONTENT, length="abc"))
    download(server.url, path, MOST)
    assert path.read_bytes() == CONTENT


def test_the_proxy_of_the_environment_is_asked(serve, path, monkeypatch):
    server = serve(lambda handler, start: rest(handler, start))
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    download("http://archives.invalid/a.tgz", path, MOST)
    assert server.asked == ["http://archives.invalid/a.tgz"]
    assert path.read_bytes() == CONTENT


def test_no_network_is_said_within_seconds(path, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 0.2)
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: time.sleep(1) or socket.socket())
    begin = time.monotonic()  # nobody answers
    with pytest.raises(ConnectionError, match="nowhere.invalid cannot be reached .*: no network?"):
        download("http://nowhere.invalid/a.tgz", path, MOST)
    assert time.monotonic() - begin < 0.9
    assert module.PATIENCE < 5


def test_a_refused_connection_is_no_network():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens
        with pytest.raises(ConnectionError, match="127.0.0.1 cannot be reached .*refused"):
            require_network(f"http://127.0.0.1:{taken.getsockname()[1]}/")
