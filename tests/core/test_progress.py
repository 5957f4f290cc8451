"""Lines on long work: now and then, with the rate and the time left."""

from woofkit import train as progress
from woofkit.train import counter


def test_a_counter_speaks_now_and_then_and_not_at_the_end(monkeypatch):
    now, lines = [0.0], []
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    on_done = counter("deletion", 100, "dogs", lines.append)
    for done in range(1, 101):
        now[0] = 2.0 * done
        on_done(done)
    assert len(lines) == 200 // progress.PROGRESS_SECONDS
    assert lines[0] == "  deletion: 15 of 100 dogs  0.5 dogs/s  2:50 left"
