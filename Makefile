# Everything a person types here. `make` alone lists it.
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help lab-up lab-down test check bench fresh clean venv machine

help: ## List the targets (this)
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' Makefile

lab-up: machine .venv/run ## Start the lab, from a bare machine on, and show its hosts
	@.venv/bin/lab up

lab-down: .venv/run ## Stop the lab; no container, network or volume of it stays
	@.venv/bin/lab down

test: machine .venv/dev ## Run every test, against the live lab too (starts it when it is down)
	@.venv/bin/pytest

check: .venv/dev ## Format, lint, types and unit tests; needs no engine
	@.venv/bin/ruff format --check
	@.venv/bin/ruff check
	@.venv/bin/mypy --strict lab bench
	@.venv/bin/pytest tests/unit $(wildcard tests/errors tests/parsers)

bench: machine .venv/dev ## Measure the lab against plain Compose and bare programs
	@.venv/bin/python -m bench

fresh: machine .venv/run ## Follow the README on a bare machine; FRESH=bookworm, trixie or forky
	@.ci/fresh

clean: ## Stop the lab and remove its images, .venv and what it wrote here
	@if [ -x .venv/bin/lab ]; then .venv/bin/lab down --images; fi
	@rm -rf .venv .lab datagram_lab.egg-info .pytest_cache .mypy_cache .ruff_cache
	@find lab bench tests services -name __pycache__ -prune -exec rm -r {} +

venv: .venv/dev ## Make .venv with the lab and its test tools

# What the distribution must bring: Python, engine, Compose. Silent and quick when it is all there.
machine:
	@lab/bootstrap.sh machine

# Stamps that lab/bootstrap.sh writes last: the lab alone, and with its test tools.
.venv/run: pyproject.toml
	@lab/bootstrap.sh venv

.venv/dev: pyproject.toml
	@lab/bootstrap.sh venv dev
