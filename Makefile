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

bench:  ## an epoch through the Trainer against a hand-written loop
	python benchmarks/plumbing.py
