"""The command line of a tool that works on a finished study: `--profile`, `--runs-dir`, and refusals in one line."""

from argparse import ArgumentParser
from collections.abc import Callable, Sequence

from woofkit.__main__ import exit_status
from woofkit.config import StudyConfig


def run_on_study(work: Callable[[str, str], None], name: str, about: str, arguments: Sequence[str] | None) -> int:
    """Call `work(profile, runs_dir)` with what `arguments` say; None: those of the process.

    Returns what `exit_status` has: 0, or 2 after a refusal, which is printed on stderr.
    """
    parser = ArgumentParser(prog=f"python -m {name}", description=about)
    parser.add_argument("--profile", default="demo", metavar="NAME", help="the study (default: %(default)s)")
    parser.add_argument("--runs-dir", default="runs", metavar="FOLDER", help="where it is (default: %(default)s)")
    options = parser.parse_args(arguments)

    def refused_or_done() -> None:
        StudyConfig(profile=options.profile)  # a folder's name, and no path
        work(options.profile, options.runs_dir)

    return exit_status(refused_or_done)
