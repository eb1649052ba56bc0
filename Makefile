# `make bump` and `make test` set everything up themselves; a second call goes straight to work.
# TORCH=system reuses a torch (2.11 or newer) that this machine's Python already has.

ifeq ($(OS),Windows_NT)
$(error Windows is not supported; use Linux, macOS or WSL)
endif

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && command -v $$p && break; done)
TORCH ?= pinned
BIN := .venv/bin
# the build backend is pinned like everything else
export PIP_CONSTRAINT = $(CURDIR)/.venv/constraints.txt

.DEFAULT_GOAL := help
.PHONY: help bump test test-slow test-transformer-lens check format benchmarks clean

help:
	@echo 'make bump        train three small models, locate the induction bump, draw the report (4 minutes)'
	@echo 'make test        style, types and the tests that do not take minutes'
	@echo 'make test-slow   tests that take minutes'
	@echo 'make test-transformer-lens  comparisons with TransformerLens 4 and 3, which it installs'
	@echo 'make check       style, types and the direction of imports'
	@echo 'make benchmarks  speed and memory, as tables'
	@echo 'make clean       remove the environment'

.venv/ready: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo 'Python 3.11, 3.12 or 3.13 is needed and none was found; set PYTHON=/path/to/python3'; exit 1; }
ifeq ($(TORCH),system)
	@$(PYTHON) -c 'import torch; v = tuple(map(int, torch.__version__.split(".")[:2])); assert v >= (2, 11), torch.__version__' \
		|| { echo 'TORCH=system needs torch 2.11 or newer in $(PYTHON)'; exit 1; }
	$(PYTHON) -m venv --system-site-packages .venv
	grep -v '^torch==' constraints.txt > .venv/constraints.txt
else
	$(PYTHON) -m venv .venv
	cp constraints.txt .venv/constraints.txt
endif
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c .venv/constraints.txt -e '.[analysis]'
	@touch $@

.venv/ready-to-test: .venv/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c .venv/constraints.txt -e '.[dev,browser]'
	@touch $@

bump: .venv/ready
	@$(BIN)/bump train -m +sweeps=quickstart
	@$(BIN)/bump measure runs/quickstart --steps last
	@$(BIN)/bump locate runs/quickstart
	@$(BIN)/bump report runs/quickstart

check: .venv/ready-to-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/basedpyright

test: check
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal

test-slow: .venv/ready-to-test
	$(BIN)/pytest -m slow

test-transformer-lens: .venv/ready-to-test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c .venv/constraints.txt -e '.[transformer-lens]'
	$(BIN)/pytest -m transformer_lens
	PIP_CONSTRAINT= $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade \
		--target .venv/transformer-lens-3 transformer-lens==3.9.0 better-abc==0.0.3
	PYTHONPATH=.venv/transformer-lens-3 $(BIN)/pytest -m transformer_lens

format: .venv/ready-to-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

benchmarks: .venv/ready
	$(BIN)/python benchmarks/throughput.py
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/measures.py
	OMP_NUM_THREADS=1 $(BIN)/python -m torch.distributed.run --standalone --nproc_per_node 2 benchmarks/ranks.py
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/sweeps.py
	$(BIN)/python benchmarks/loading.py --tokenise
	$(BIN)/python benchmarks/records.py --place /dev/shm
	$(BIN)/bump train -m +sweeps=quickstart
	$(BIN)/python benchmarks/snapshots.py runs/quickstart

clean:
	rm -rf .venv
