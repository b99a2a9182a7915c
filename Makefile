.DEFAULT_GOAL := help
.PHONY: help train check format lint types layers docs test slow fault slurm bench

help:  ## list the targets
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/:.*## /\t/'

train:  ## train the default network
	python -m digitnet.train

check: format lint types layers docs test  ## the gate: everything that must pass before a commit

format:  ## check the formatting
	ruff format --check .

lint:  ## check the rules, docstrings included
	ruff check .

types:  ## check the types
	mypy

layers:  ## check the direction of imports between the packages
	lint-imports

docs:  ## build the documentation as a site in docs/_build; a warning is an error
	python -m sphinx -W --keep-going -q -b html docs docs/_build

test:  ## run the tests, minutes
	python -m pytest

slow:  ## run the tests that train for real
	python -m pytest -m slow

fault:  ## run the fault tests at full size, a quarter of an hour; writes tests/faults/REPORT.md
	python -m pytest -m "fault or not fault" tests/faults --fault-report tests/faults/REPORT.md

slurm:  ## run jobs in a SLURM on this machine, five minutes; as root, with slurm-wlm and munge installed
	python -m pytest -m slurm -n 0

bench:  ## run the benchmarks, an hour; see benchmarks/README.md for those that it leaves out
	for name in trainer_overhead startup evaluation guard_overhead tensorboard_cost scaling image_throughput export sweep step_profile step_savings network_cost precision; do python benchmarks/$$name.py || exit 1; done
