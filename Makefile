.DEFAULT_GOAL := help
.PHONY: help train test slow fault lint bench

help:  ## what can be made
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/:.*## /\t/'

train:  ## train the default network
	python -m digitnet.train

test:  ## the tests, minutes
	python -m pytest

slow:  ## the tests that train for real
	python -m pytest -m slow

fault:  ## hundreds of ways to break a run, a quarter of an hour; writes tests/faults/REPORT.md
	python -m pytest -m "fault or not fault" tests/faults --fault-report tests/faults/REPORT.md

lint:  ## formatting, rules, types
	ruff format --check . && ruff check . && mypy

bench:  ## run the benchmarks, an hour; see benchmarks/README.md for the two that it leaves out
	for name in trainer_overhead startup evaluation guard_overhead scaling image_throughput export; do python benchmarks/$$name.py || exit 1; done
