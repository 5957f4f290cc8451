"""Whatever the machine does is said in one sentence; what was killed leaves nothing for ever."""

import errno
import os
import resource
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import save_file

from woofkit import __main__ as command_line
from woofkit import files
from woofkit.config import ConfigError, StudyConfig, resolve_path
from woofkit.fast.memory import activation_bytes, batch_that_fits, naming_what_fits
from woofkit.faults import REPORT, as_exit_status, explain, explain_in_notebook
from woofkit.files import remove_leftovers, require_room, temporary_path, write_atomic
from woofkit.profiles import from_notebook


def os_error(number, file=None):
    return OSError(number, os.strerror(number), file)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (os_error(errno.ENOSPC, "/r/metrics.json"), "the disk is full, /r/metrics.json was not written: make room"),
        (os_error(errno.ENOSPC, "/dev/shm/sem.1"), "the shared memory, /dev/shm, is too small"),
        (os_error(errno.EACCES, "/r"), "/r cannot be opened (permission denied): if it is a run's, set runs_dir"),
        (os_error(errno.EROFS, "/r"), "(read-only file system): if it is a run's, set runs_dir to a folder of yours"),
        (os_error(errno.ENAMETOOLONG, "aaa"), "a name is too long for the disk: aaa"),
        (os_error(errno.EMFILE), "open no more files (ulimit -n)"),
        (os_error(errno.EIO, "/r/a"), "/r/a: input/output error"),
        (OSError("dog.jpg cannot be read as an image"), "dog.jpg cannot be read as an image"),
        (MemoryError(), "the memory is not enough: take a smaller batch_size, or micro_batch=8"),
        (os_error(errno.ENOMEM), "the memory is not enough"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "the memory is not enough"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), "the memory is not enough"),
        (RuntimeError("could not create a primitive"), "the memory is not enough"),
        (RuntimeError("unable to write to file </torch_12_34>"), "/dev/shm, is too small: give it more"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: x"), "the system ended a process that reads"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error. shared memory"), "/dev/shm"),
        (RuntimeError("[enforce fail] unexpected pos 5105472 vs 5105364"), "could not be written to its end"),
        (RuntimeError("can't start new thread"), "(ulimit -u)"),
    ],
    ids=lambda value: "" if isinstance(value, BaseException) else value[:30],
)  # fmt: skip
def test_what_the_machine_does_is_one_sentence(error, words):
    assert words in explain(error)
    assert "\n" not in explain(error)


@pytest.mark.parametrize("error", [KeyError("a"), RuntimeError("mat1 and mat2 cannot be multiplied"), ValueError("x")])
def test_our_own_mistakes_have_no_sentence(error):
    assert explain(error) == ""


@pytest.fixture
def small_files():
    """Files of at most 100 kB, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    "write",
    [
        lambda path: torch.save(torch.zeros(100_000), path),
        lambda path: save_file({"a": torch.zeros(100_000)}, path),
        lambda path: path.write_bytes(bytes(400_000)),
    ],
    ids=["PyTorch", "safetensors", "Python"],
)
def test_a_file_that_does_not_fit_is_named_whoever_writes_it(tmp_path, small_files, write):
    with pytest.raises(OSError, match=r"weights\.bin") as caught:
        write_atomic(tmp_path / "weights.bin", write)
    assert str(tmp_path / "weights.bin") in explain(caught.value)
    assert not list(tmp_path.iterdir())


# --- commands and signals ---


def test_a_command_says_one_sentence_and_a_mistake_of_ours_asks_for_a_report(capsys):
    def full():
        raise os_error(errno.ENOSPC, "/r/a")

    assert command_line.exit_status(full) == 1
    assert capsys.readouterr().err.startswith("error: the disk is full, /r/a was not written")
    with pytest.raises(KeyError) as caught:
        command_line.exit_status(lambda: {}["planted"])
    assert caught.value.__notes__ == [REPORT]


@pytest.mark.parametrize(("name", "status"), [("SIGTERM", 143), ("SIGHUP", 129), ("SIGINT", 130)])
def test_a_signal_ends_a_command_as_ctrl_c_does(name, status):
    said, cleaned = [], []

    def work():
        try:
            os.kill(os.getpid(), getattr(signal, name))
            time.sleep(5)
        finally:
            cleaned.append(True)

    assert as_exit_status(work, said.append) == status
    assert cleaned
    assert said[0].endswith("the same command goes on where this one stopped")
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_hangup_that_is_ignored_stays_so():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup leaves it
    try:
        assert as_exit_status(lambda: os.kill(os.getpid(), signal.SIGHUP), print) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("kind", ["OSError(28, 'No space left on device', '/r/a')", "MemoryError()"])
def test_a_notebook_shows_the_sentence_alone(kind, capsys):
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell()
    explain_in_notebook(shell)
    assert not shell.run_cell(f"raise {kind}").success
    shown = capsys.readouterr().out
    assert "Traceback" not in shown
    assert "make room" in shown or "micro_batch=8" in shown
    shell.run_cell("{}['planted']")
    assert "Traceback" in capsys.readouterr().out


# --- parameters ---


def test_a_misspelt_parameter_of_papermill_is_refused_by_the_notebook():
    namespace = vars(StudyConfig()) | {
        "learning_rate": 0.1,
        "In": ["", "epochs = 5", "# Parameters\nlearning_rate = 0.1\n"],
    }
    with pytest.raises(ConfigError, match="unknown parameter 'learning_rate': allowed are .*lr"):
        from_notebook(namespace)
    own = namespace | {"In": ["", "# Parameters\nlr = 0.1\n", "learning_rate = 3"]}  # a reader's own name
    assert from_notebook(own) == StudyConfig()


@pytest.mark.parametrize(("text", "value"), [("1e-3", 0.001), ("4e-4", 4e-4), ("5", 5)])
def test_numbers_that_yaml_1_1_takes_for_texts_are_understood(text, value):
    assert from_notebook(vars(StudyConfig()) | {"lr": text}).lr == value
    with pytest.raises(ConfigError, match="lr must be of type float, not str"):
        from_notebook(vars(StudyConfig()) | {"lr": "fast"})


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("~nosuchuser/runs", "no user of this machine"),
        ("a" * 300, "300 characters: allowed are 255 bytes"),
        ("ä" * 200, "allowed are 255 bytes"),
        ("a\0b", "a NUL"),
    ],
)
def test_a_path_that_no_disk_can_have_is_refused(path, words):
    with pytest.raises(ConfigError, match=words):
        resolve_path(path)
    for name in ("data_dir", "weights"):
        with pytest.raises(ConfigError, match=words):
            StudyConfig(**{name: path})


# --- leftovers and room ---


def test_what_killed_processes_left_is_removed_and_what_lives_stays(tmp_path):
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    here = temporary_path(tmp_path / "a.npy")
    gone = here.with_name(here.name.replace(f"-{os.getpid()}-", f"-{dead.stdout.strip()}-"))
    elsewhere, abandoned = tmp_path / ".a.npy.0123abcd-1-0123abcd.tmp", tmp_path / ".b.pt.12-0123abcd.tmp"
    tree = gone.with_name(gone.name.replace("a.npy", "export"))
    tree.mkdir()
    for file in (here, gone, elsewhere, abandoned, tree / "model", tmp_path / ".mine.tmp", tmp_path / "a.npy"):
        file.write_bytes(b"")
    os.utime(abandoned, (0, time.time() - 2 * files.ABANDONED_SECONDS))
    write_atomic(tmp_path / "new", lambda path: path.write_bytes(b""))
    assert {file.name for file in tmp_path.iterdir()} == {here.name, elsewhere.name, ".mine.tmp", "a.npy", "new"}
    remove_leftovers(tmp_path / "not there")


def test_room_is_asked_for_before_work_starts(tmp_path):
    require_room("runs_dir", tmp_path / "not" / "there", 1000)
    with pytest.raises(ConfigError, match="runs_dir .* has room for .* MB, and 1,000,000,000,000 are needed"):
        require_room("runs_dir", tmp_path / "not" / "there", 1e18)


# --- memory ---


def test_a_lack_of_memory_names_a_batch_that_fits(small_vit, monkeypatch):
    one, four = (activation_bytes(small_vit, torch.zeros(count, 3, 32, 32)) for count in (1, 4))
    assert four == pytest.approx(4 * one, rel=0.05)
    needed = sum(3 * parameter.nbytes for parameter in small_vit.parameters())
    monkeypatch.setattr("woofkit.fast.memory.resolve_model_data_config", lambda _: {"input_size": (3, 32, 32)})
    monkeypatch.setattr("woofkit.fast.memory.free_memory", lambda: needed + 100 * one)
    assert batch_that_fits(small_vit) == 64  # four fifths of a hundred, down to a power of two
    with (
        pytest.raises(
            MemoryError, match="not enough for batches of 1,000 images: micro_batch=64 fits and computes the"
        ),
        naming_what_fits(small_vit, 1000),
    ):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
    with pytest.raises(RuntimeError, match="planted"), naming_what_fits(small_vit, 1000):
        raise RuntimeError("planted")
