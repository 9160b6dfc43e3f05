# `make run` and `make test` need nothing before them: each sets up .venv when it must.
PYTHON ?= python3
CONFIG ?= configs/default.yaml
# Further options of `regent run`, for instance ARGS="--rounds 1".
ARGS ?=
# Where pip finds torch's CPU build, if its configured sources have none.
TORCH_INDEX_URL ?=

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
STAMP := .venv/.installed
UNFINISHED := .venv/.unfinished
TORCH := $(shell sed -n 's/^torch==//p' requirements.txt)
PYTEST := $(BIN)/python -m pytest -q -rs

.DEFAULT_GOAL := help
.PHONY: help run test check format install

help: ## this list
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

run: $(STAMP) ## a supervised run on the embedded model, in a fresh folder under runs/
	@exec $(BIN)/regent run "runs/$$(date +%Y%m%d-%H%M%S)" --config $(CONFIG) $(ARGS)

# Two workers have two cores: with more threads each, they would wait for each other at every product.
# A real run waits for processes to start most of the time, so two files of real tests share two cores
# well, as long as threads that wait at a barrier sleep there.
test: $(STAMP) ## every test, two at a time: the fast ones, then the real ones, file by file
	@status=0; \
	echo "pytest, 1 of 2: without models"; \
	OMP_NUM_THREADS=1 $(PYTEST) -m "not real" -n 2 --dist loadfile --timeout 120 || status=$$?; \
	echo "pytest, 2 of 2: with the real model, engine, Ray and MLflow"; \
	OMP_WAIT_POLICY=PASSIVE $(PYTEST) -m real -n 2 --dist loadfile --timeout 1200 || status=$$?; \
	exit $$status

check: $(STAMP) ## format, lint, types, one-way imports, dependencies
	@status=0; \
	for tool in "ruff format --check ." "ruff check --quiet ." "mypy" "lint-imports" "deptry ."; do \
		echo "$$tool"; $(BIN)/$$tool || status=1; \
	done; \
	exit $$status

format: $(STAMP) ## rewrite the code in the house's format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

install: $(STAMP) ## only the set-up that the others do by themselves

# The mark of an unfinished installation stays until the last step, so a broken one is begun again.
$(STAMP): requirements.txt pyproject.toml
	@if [ -e $(UNFINISHED) ]; then echo "the last installation did not finish: beginning again"; rm -rf .venv; fi
	@if [ ! -x $(BIN)/python ]; then \
		$(PYTHON) -c 'import sys' 2>/dev/null || \
			{ echo "$(PYTHON) does not run: install Python 3.11 or newer, or name one: make PYTHON=python3.11" >&2; exit 1; }; \
		$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
			{ echo "$$($(PYTHON) --version) is too old: Regent needs 3.11 or newer; name one: make PYTHON=python3.11" >&2; exit 1; }; \
		$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
			{ echo "$(PYTHON) cannot make virtual environments: install its venv package (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; }; \
		$(PYTHON) -m venv .venv; \
	fi
	@touch $(UNFINISHED)
	@echo "installing $$(grep -c == requirements.txt) packages into .venv, some minutes (4.5 GB)"
	@$(PIP) install -qq --no-deps --no-compile $(if $(TORCH_INDEX_URL),--index-url $(TORCH_INDEX_URL)) "torch==$(TORCH)+cpu" || \
		{ echo "torch $(TORCH)+cpu is not in pip's sources: take the address of the CPU builds from PyTorch's installation page, then make install TORCH_INDEX_URL=ADDRESS" >&2; exit 1; }
	@$(PIP) install -qq --no-deps --no-compile -r requirements.txt || \
		{ echo "the installation stopped at the line above: mend it (network, space on the disk), then call make again" >&2; exit 1; }
# pip compiles on one core. A few files of other packages are templates and do not compile.
	@$(BIN)/python -m compileall -qq -j 0 .venv/lib >/dev/null 2>&1 || true
# A process monitor called supervisor, in an environment made by other means, would hide our package.
	@$(PIP) uninstall -qq -y supervisor
	@$(PIP) install -qq --no-deps --no-build-isolation -e .
	@$(BIN)/python -P -c 'import pathlib, sys, supervisor; sys.exit(pathlib.Path(supervisor.__file__).resolve().parent != pathlib.Path("supervisor").resolve())' || \
		{ echo "another package called supervisor hides ours: unset PYTHONPATH, then call make again" >&2; exit 1; }
	@rm -f $(UNFINISHED)
	@touch $(STAMP)
