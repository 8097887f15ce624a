# The developer's door: thin verbs over ordinary tools.
PYTHON ?= python3
BIN := .venv/bin
export OMP_NUM_THREADS ?= 1

.PHONY: install demo test check format serve bench paper test-compat build clean

install: .venv/installed  ## a virtual environment with the library, the server, the demo and the integrations
demo: .venv/installed  ## the whole cycle on real digits: learn, save, push, find, pull, reuse, evidence
	$(BIN)/python demo/cycle.py

test: .venv/tested  ## the whole suite, without network
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m "not compat"
check: .venv/tested  ## format, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
test-compat: .venv/tested  ## older clients of the hub, and the library on the oldest torch, each in an environment of its own
	$(BIN)/python -m pytest -n 2 -m compat --timeout 1200
format: .venv/tested
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

serve: .venv/installed  ## the hub, on the data that the demo left
	$(BIN)/commentary-hub serve --data-dir demo/hub
bench: .venv/benched  ## every benchmark, one after the other
	@set -e; for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script; done
PROFILE ?= cpu
paper: .venv/installed  ## the paper's experiments, resumable: make paper PROFILE=cpu|full [DATA=folder of copies]
	$(BIN)/python benchmarks/paper/run.py --profile $(PROFILE) $(if $(DATA),--data $(DATA))
build: .venv/tested  ## wheel and sdist into dist/
	$(BIN)/python -m build

# One command for torch and torchvision, pinned to the pair that is tested; constraints.txt holds versions only.
.venv/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[all]"
	touch $@
.venv/tested: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group test
	touch $@
.venv/benched: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[bench]"
	$(BIN)/python -m pip install --quiet --target .venv/old-pip "pip<24.1"
	PYTHONPATH=.venv/old-pip $(BIN)/python -m pip install --quiet --no-deps betty-ml==0.1.1
	touch $@
clean:
	rm -rf .venv dist demo/hub demo/artefact demo/pulled demo/plots demo/results.json
