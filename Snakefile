# A sweep's jobs: one for each run, and one for each best learning rate, which the runs that take it wait for.
#   python -m woofkit sweep rigor
# is, once the sweep has been checked,
#   snakemake --config sweep=rigor --cores all --rerun-triggers mtime --ignore-incomplete --nolock --keep-going
# in the folder of the runs (--directory).
#
# A job declares no file but metrics.json, which is written last and whole: Snakemake deletes what is declared, and the
# checkpoint of an unfinished run must stay. So an output that is there is complete (--ignore-incomplete), and neither
# code, date nor commit makes a finished run an unfinished one (--rerun-triggers mtime; a training has no input).
# The lock is ours, since Snakemake's (--nolock does without it) outlives a process that is killed.

import json
import os
import sys

from snakemake.exceptions import WorkflowError

from woofkit.config import ConfigError
from woofkit.config import parse_override
from woofkit.sweeps.plan import has_diverged, hold_folder, plan
from woofkit.sweeps.time import agenda_file, write_agenda
from woofkit.sweeps.grid import load_sweep

if "sweep" not in config:
    raise WorkflowError("name a sweep: snakemake --config sweep=rigor ..., or python -m woofkit sweep rigor")
try:
    parameters = {name: parse_override(name, text) for name, text in config.get("parameters") or []}
    sweep = load_sweep(str(config["sweep"]), parameters)
    jobs = plan(sweep)
    lock = None if workflow.dryrun else hold_folder(sweep.root)
except ConfigError as error:
    raise WorkflowError(str(error))
done_before = sum(job.done for job in jobs)
if lock:
    write_agenda(sweep, jobs, done_before)
searches = {job.search.name: job.search for job in jobs if job.search}


workdir: str(sweep.root)


def metrics(run):
    return f"{run.name}/metrics.json"


def runs_after(search):
    """The runs that take their learning rate from a search: known when that has ended."""

    def runs(wildcards):
        checkpoints.best_lr.get(search=search)
        jobs[:] = plan(sweep)
        if lock:
            write_agenda(sweep, jobs, done_before)
        return [metrics(job.run) for job in jobs if job.search and job.search.name == search and not job.diverged]

    return runs


def training(wildcards):
    job = next(job for job in jobs if job.run and job.run.name == wildcards.run)
    given = {"config": job.config.to_dict(), "run": str(job.run), "agenda": str(agenda_file(sweep)), "parent": os.getpid()}
    return json.dumps(given)


def choosing(wildcards, output):
    search = searches[wildcards.search]
    runs = [(lr, str(run)) for lr, run in search.runs]
    return json.dumps({"name": search.name, "runs": runs, "output": str(output), "parent": os.getpid()})


wildcard_constraints:
    run=r"[^/]+",
    search=r"[^/]+",


rule all:
    input:
        [metrics(job.run) for job in jobs if job.run and not job.diverged],
        *[runs_after(search) for search in searches],


# "exec" makes the job a child of Snakemake itself, with which it dies.
rule train:
    output:
        "{run}/metrics.json",
    params:
        given=training,
    threads: workflow.cores
    shell:
        "exec {sys.executable:q} -m woofkit.sweeps.job train {params.given:q}"


checkpoint best_lr:
    input:
        lambda wildcards: [metrics(run) for _, run in searches[wildcards.search].runs if not has_diverged(run)],
    output:
        "best_lr/{search}.json",
    params:
        given=choosing,
    shell:
        "exec {sys.executable:q} -m woofkit.sweeps.job best {params.given:q}"
