.DEFAULT_GOAL := help
.PHONY: help train test slow lint bench

help:  ## what can be made
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/:.*## /\t/'

train:  ## train the default network
	python -m digitnet.train

test:  ## the tests, minutes
	python -m pytest

slow:  ## the tests that train for real
	python -m pytest -m slow

lint:  ## formatting, rules, types
	ruff format --check . && ruff check . && mypy

bench:  ## what the plumbing, the start, the evaluation and the growth cost; Keras has a command of its own
	for name in plumbing startup evaluation scaling; do python benchmarks/$$name.py || exit 1; done
