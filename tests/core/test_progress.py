"""Lines on long work: now and then, with the rate and the time left."""

from woofkit import progress
from woofkit.progress import progress_bar


def test_a_bar_speaks_now_and_then_and_neither_at_the_start_nor_at_the_end():
    now, lines = [0.0], []
    with progress_bar(9, "beside", "dogs", lines.append), progress_bar(100, "deletion", "dogs", lines.append) as bar:
        bar._time = lambda: now[0]  # tqdm's clock
        bar.start_t = bar.last_print_t = 0.0
        for done in range(1, 101):
            now[0] = 2.0 * done
            bar.update()
    assert len(lines) == 200 // progress.PROGRESS_SECONDS
    assert lines[0] == "deletion  15 of 100 dogs   0.50 dogs/s  02:50 left"


def test_items_are_reported_where_there_is_a_log(monkeypatch):
    monkeypatch.setattr(progress, "PROGRESS_SECONDS", 0)
    lines = []
    assert list(progress.reported("abc", "reading", "runs", lines.append)) == ["a", "b", "c"]
    assert any(line.startswith("reading  2 of 3 runs") for line in lines)
    assert list(progress.reported("abc", "reading", "runs", None)) == ["a", "b", "c"]
