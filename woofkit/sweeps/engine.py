"""Where the jobs of a sweep run: on this machine, on a cluster, or wherever a launcher takes them.

Each is a folder of sweeps/profiles, which holds Snakemake's options for it. docs/clusters.md says which to take when.
"""

import os
import shutil
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from woofkit.config import PROJECT_ROOT, ConfigError, require_range, resolve_path
from woofkit.profiles import read_mapping

PROFILES = PROJECT_ROOT / "sweeps" / "profiles"
HERE, LAUNCHED = "default", "launcher"
MOST_AT_ONCE = 100_000


@dataclass(frozen=True)
class Engine:
    """Where Snakemake runs the jobs of a sweep, and how many at once.

    Args:
        cluster: a folder of PROFILES or the path of another one, with Snakemake's options; "" without a cluster.
        launcher: words of a shell before each job, such as "srun -Q -n1", that start it elsewhere; "" for none.
        jobs: how many run at once on a cluster or with a launcher; None leaves it to the profile.
        cores: those that all runs share on this machine; None for all that there are.
    """

    cluster: str = ""
    launcher: str = ""
    jobs: int | None = None
    cores: int | None = None

    @property
    def profile(self) -> Path:
        """The folder with Snakemake's options."""
        if not self.cluster:
            return PROFILES / (LAUNCHED if self.launcher else HERE)
        return resolve_path(self.cluster) if os.sep in self.cluster else PROFILES / self.cluster

    @property
    def command(self) -> str:
        """What stands before the command of each job.

        The launcher, where Linux has `setpriv`, in such a way that it ends with Snakemake, however that ends.
        """
        leash = "setpriv --pdeathsig TERM " if self.launcher and not self.cluster and shutil.which("setpriv") else ""
        return leash + self.launcher

    def options(self) -> list[str]:
        """Snakemake's options for this.

        Raises:
            ConfigError: an unknown cluster, one whose plugin is not installed, or a number that means nothing there.
        """
        require_range("--cores", 1 if self.cores is None else self.cores, 1, 4096)
        require_range("--jobs", 1 if self.jobs is None else self.jobs, 1, MOST_AT_ONCE)
        away = bool(self.cluster or self.launcher)
        if (self.cores if away else self.jobs) is not None:
            raise ConfigError(
                "--cores is for runs on this machine: give --jobs, and cores per job in the profile or the launcher"
                if away
                else "--jobs is for --cluster or --launcher: on this machine one run at a time takes all --cores"
            )
        config = self.profile / "config.yaml"
        if not config.is_file():
            known = ", ".join(sorted(path.parent.name for path in PROFILES.glob("*/config.yaml")))
            raise ConfigError(f"unknown cluster {self.cluster!r}: allowed are {known}, or a folder with a config.yaml")
        executor = read_mapping(config).get("executor", "local")
        if executor != "local" and not find_spec(f"snakemake_executor_plugin_{executor.replace('-', '_')}"):
            raise ConfigError(
                f"cluster {self.cluster!r} needs a package of its own: pip install snakemake-executor-plugin-{executor}"
            )
        options = ["--workflow-profile", str(self.profile)]
        if self.cluster:
            return options + (["--jobs", str(self.jobs)] if self.jobs else [])
        return [*options, "--cores", str((self.jobs or 1) if self.launcher else self.cores or os.cpu_count())]
