#!/bin/bash
# A SLURM cluster on this machine alone: munged, slurmctld and two slurmd, all on loopback.
#
#   bash tests/slurm/cluster.sh up STATE      starts it; STATE is the folder for everything that it writes
#   bash tests/slurm/cluster.sh down STATE    ends it, with its jobs, and removes the folder
#
# With SLURM_CONF=STATE/slurm.conf, the commands of SLURM use this cluster. It needs root, and the packages slurm-wlm and
# munge of Debian. There is no systemd, no cgroup and no accounting.
set -uo pipefail
action=$1 state=$2 port=${PORT:-26917} nodes=2
export SLURM_CONF=$state/slurm.conf

down() {
    [ -d "$state/run" ] || return 0
    [ -s "$state/run/slurmctld.pid" ] && timeout 5 scancel --full --signal=KILL --user=root 2>/dev/null
    pids=()
    for file in "$state"/run/*.pid; do
        pid=$(cat "$file" 2>/dev/null) || continue
        # Otherwise the number is that of another process by now.
        tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -qF "$state" && pids+=("$pid")
    done
    if [ ${#pids[@]} -gt 0 ]; then
        kill "${pids[@]}"
        for _ in $(seq 20); do kill -0 "${pids[@]}" 2>/dev/null || break; sleep 0.1; done
        kill -9 "${pids[@]}" 2>/dev/null
    fi
    rm -rf "$state"
}

up() {
    set -e
    mkdir -p "$state"/run "$state"/log "$state"/ctld
    # The nodes are called 127.0.0.1 and 127.0.0.2: the name of the first is the address at which the processes meet.
    # Both slurmd run on this host, which the build of Debian allows.
    host=$(hostname -s)
    head -c 1024 /dev/urandom >"$state/munge.key"
    chmod 400 "$state/munge.key"
    cat >"$SLURM_CONF" <<CONF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmUser=root
SlurmdUser=root
AuthInfo=socket=$state/run/munge.socket
StateSaveLocation=$state/ctld
SlurmdSpoolDir=$state/spool.%n
SlurmctldPidFile=$state/run/slurmctld.pid
SlurmdPidFile=$state/run/slurmd.%n.pid
SlurmctldLogFile=$state/log/slurmctld.log
SlurmdLogFile=$state/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=2,sched_min_interval=0,bf_interval=2
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
KillWait=20
NodeName=127.0.0.[1-$nodes] NodeHostname=$host Port=[$((port + 1))-$((port + nodes))] CPUs=2 RealMemory=1000
PartitionName=test Nodes=ALL Default=YES MaxTime=60 DefaultTime=10
CONF
    echo "CgroupPlugin=cgroup/v1" >"$state/cgroup.conf" # read even where no plugin uses it
    munged --force --key-file="$state/munge.key" --socket="$state/run/munge.socket" \
        --pid-file="$state/run/munged.pid" --log-file="$state/log/munged.log" --seed-file="$state/run/munge.seed" \
        2>"$state/log/munged.err"
    slurmctld -i -f "$SLURM_CONF"
    for i in $(seq $nodes); do
        mkdir -p "$state/spool.127.0.0.$i"
        slurmd -f "$SLURM_CONF" -N "127.0.0.$i"
    done
    for _ in $(seq 100); do
        [ "$(sinfo -h -N -o %T 2>/dev/null | grep -c '^idle$')" = $nodes ] && return
        sleep 0.1
    done
    echo "cluster.sh: the nodes are not idle after 10 s; see $state/log" >&2
    return 1
}

case $action in
    up) down && up ;;
    down) down ;;
    *) echo "usage: cluster.sh up|down STATE" >&2 && exit 2 ;;
esac
