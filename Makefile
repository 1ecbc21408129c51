# Every target sets up what it needs: a fresh clone and Python 3.11 or newer are enough.
PYTHON ?= python3
CONFIG ?= pets_pendulum
SEED ?= 0
TEST_WORKERS ?= 2
IMAGE ?= mbrl-bilevel

VENV := .venv
BIN := $(VENV)/bin
RUNTIME := $(VENV)/installed-runtime
DEV := $(VENV)/installed-dev

# Those that need no network.
BENCHMARKS := training_step_cost.py hypergradient_memory.py "fig3_speed.py --without-torchopt" \
	"model_speed.py --without-mbrl" "planning_speed.py --without-mbrl" learned_vec_env_speed.py
# The same beside the PyPI package mbrl, which goes into an environment of its own.
MBRL_BENCHMARKS := model_speed.py planning_speed.py

.DEFAULT_GOAL := help
.PHONY: help train test lint type format bench bench-mbrl docker clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

train: $(RUNTIME) ## train an agent; CONFIG=pets_pendulum SEED=0
	$(BIN)/mbrl-bilevel train $(CONFIG) --seed $(SEED)

test: lint type ## check style and types, then run every test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TEST_WORKERS) --dist worksteal

lint: $(DEV) ## check the style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: $(DEV) ## check the types
	$(BIN)/mypy

format: $(DEV) ## format the code and repair what can be repaired
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(DEV) ## measure speed and memory
	@set -e; for run in $(BENCHMARKS); do echo "== $$run"; $(BIN)/python benchmarks/$$run; done

bench-mbrl: $(DEV) ## measure speed beside the PyPI package mbrl
	@set -e; for run in $(MBRL_BENCHMARKS); do echo "== $$run"; $(BIN)/python benchmarks/$$run; done

docker: ## build the image; IMAGE=mbrl-bilevel
	docker build -t $(IMAGE) .

clean: ## remove the virtual environment, caches and builds; runs/ stays
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

CHECK_VERSION := import sys; sys.exit(None if sys.version_info >= (3, 11) else \
	"mbrl-bilevel needs Python 3.11 or newer; {} is {}.{}".format(sys.executable, *sys.version_info))

# A virtual environment without pip is one whose making was interrupted.
$(RUNTIME): pyproject.toml constraints.txt
	@if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
		command -v $(PYTHON) >/dev/null || \
			{ echo "No $(PYTHON) found; choose a Python 3.11 or newer: make PYTHON=/path/to/python" >&2; exit 1; }; \
		$(PYTHON) -c '$(CHECK_VERSION)' || \
			{ echo "Choose another one: make PYTHON=/path/to/python" >&2; exit 1; }; \
		echo "Making the virtual environment $(VENV)"; \
		$(PYTHON) -m venv --clear $(VENV); \
	fi
	@$(BIN)/python -c '$(CHECK_VERSION)' || { echo "Remove $(VENV), then try again" >&2; exit 1; }
	$(BIN)/python -m pip install -c constraints.txt -e .
	@touch $@

$(DEV): $(RUNTIME)
	$(BIN)/python -m pip install -c constraints.txt -e '.[dev]'
	@touch $@
