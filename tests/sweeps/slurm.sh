#!/usr/bin/env bash
# A real Slurm of two virtual nodes with one CPU each on this machine, without systemd, cgroups or a database:
#
#   slurm.sh up FOLDER      starts it; its state, its logs and the process numbers are in FOLDER
#   slurm.sh down FOLDER    stops it
#
# Needs root, and Debian's packages: apt-get install slurm-wlm munge. Memory and CPUs are counted, but not enforced.
# /etc/slurm/slurm.conf is a link into FOLDER while it runs, since the steps of a job look there; another one is not
# touched.
set -euo pipefail
folder=$(realpath -m "$2")
conf=/etc/slurm/slurm.conf
host=$(hostname)

up() {
    if [ -e "$conf" ] && [ ! -L "$conf" ]; then
        echo "$conf is there already: this machine has a Slurm of its own" >&2
        exit 1
    fi
    mkdir -p "$folder"/{state,spool/n1,spool/n2,log} /run/munge /etc/slurm
    cat >"$folder/slurm.conf" <<END
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=16817
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool/%n
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.%n.pid
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/filetxt
JobCompLoc=$folder/log/jobs.txt
KillWait=10
NodeName=n[1-2] NodeHostname=$host NodeAddr=127.0.0.1 Port=[17001-17002] CPUs=1 RealMemory=6000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=60 State=UP
END
    ln -sf "$folder/slurm.conf" "$conf"
    # Debian's munge refuses a folder that others than its user own.
    chown munge: /run/munge
    runuser -u munge -- /usr/sbin/munged --pid-file=/run/munge/test.pid --log-file=/run/munge/test.log --force
    slurmctld -c
    slurmd -N n1
    slurmd -N n2
    for _ in $(seq 100); do
        if [ "$(sinfo --noheader --Node --states=idle --format=%N 2>/dev/null | wc -l)" = 2 ]; then
            exit 0
        fi
        sleep 0.1
    done
    echo "the two nodes did not come up: see $folder/log" >&2
    exit 1
}

down() {
    scancel --user=root 2>/dev/null || true
    for pid in "$folder"/slurmd.n1.pid "$folder"/slurmd.n2.pid "$folder"/slurmctld.pid /run/munge/test.pid; do
        if [ -s "$pid" ]; then
            kill "$(cat "$pid")" 2>/dev/null || true
        fi
    done
    if [ "$(readlink "$conf")" = "$folder/slurm.conf" ]; then
        rm "$conf"
    fi
}

"$1"
