.DEFAULT_GOAL := help
.PHONY: help train test slow fault lint docs bench

help:  ## what can be made
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/:.*## /\t/'

train:  ## train the default network
	python -m digitnet.train

test:  ## the tests, minutes
	python -m pytest

docs:  ## the documentation as a site in docs/_build; a warning is an error
	python -m sphinx -W --keep-going -q -b html docs docs/_build

slow:  ## the tests that train for real
	python -m pytest -m slow

fault:  ## hundreds of ways to break a run, a quarter of an hour; writes tests/faults/REPORT.md
	python -m pytest -m "fault or not fault" tests/faults --fault-report tests/faults/REPORT.md

lint:  ## formatting, rules, types
	ruff format --check . && ruff check . && mypy

bench:  ## what the plumbing, the start, the evaluation, the guards, the growth, pictures and export cost; Keras has a command of its own
	for name in plumbing startup evaluation trust scaling reading export; do python benchmarks/$$name.py || exit 1; done
