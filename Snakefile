# The jobs of a sweep: one for each run, and one for each best learning rate, which the runs that take it wait for.
#
#   python -m woofkit sweep rigor
#
# reads the sweep and writes its agenda, a JSON file in the folder of the runs. Then it starts, in that folder,
#
#   snakemake --configfile AGENDA --workflow-profile sweeps/profiles/default
#
# or with the profile of a cluster. There, each job reads this file anew, and the agenda, and plans nothing.
#
# A job declares one small file, which says what came of it and where the folder of the run is. The folder itself, with
# the checkpoint of an unfinished run, is not declared, so Snakemake never deletes it. The name of the small file is a
# hash of the settings alone. If the images, the weights or the drawing code have changed, delete the folder jobs/:
# each run is looked up again, and trained where it is no longer the same.

import sys


def best_lr(wildcards):
    search = config["runs"][wildcards.run]["search"]
    return f"best_lr/{search}.json" if search else []


def search_minutes(search):  # it trains up to as many runs again, beyond the edge of its grid
    return sum(config["runs"][run]["minutes"] for _, run in config["searches"][search])


localrules: all


rule all:
    input:
        expand("jobs/{run}.json", run=config["runs"]),


rule train:
    input:
        best_lr,
    output:
        "jobs/{run}.json",
    params:
        words=lambda wildcards: config["runs"][wildcards.run]["words"],
    resources:
        runtime=lambda wildcards: config["runs"][wildcards.run]["minutes"],
    message:
        "{params.words}"
    shell:
        "exec {config[launcher]} {sys.executable:q} -m woofkit.sweeps.run train {config[agenda]:q} {wildcards.run}"


rule choose:
    input:
        lambda wildcards: [f"jobs/{run}.json" for _, run in config["searches"][wildcards.search]],
    output:
        "best_lr/{search}.json",
    resources:
        runtime=lambda wildcards: search_minutes(wildcards.search),
    message:
        "best learning rate of {wildcards.search}"
    shell:
        "exec {config[launcher]} {sys.executable:q} -m woofkit.sweeps.run choose {config[agenda]:q} {wildcards.search}"
