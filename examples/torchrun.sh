#!/bin/bash
# One run on several machines without SLURM. Start this on each of them, with the same overrides:
#
#   bash examples/torchrun.sh model=cnn hydra.run.dir=runs/first
#   bash examples/torchrun.sh resume=runs/first
#
# Edit the next two lines: the number of machines and of processes on each, and the address of the first machine.
machines=${MACHINES:-2} processes=${PROCESSES:-2}
first=${FIRST:-127.0.0.1:29500}

exec torchrun --nnodes="$machines" --nproc-per-node="$processes" --rdzv-id=digitnet --rdzv-backend=c10d \
    --rdzv-endpoint="$first" -m digitnet.train trainer.devices="$processes" trainer.num_nodes="$machines" "$@"
