# The two commands of the README, and the pieces of `make test` for everyday work. `make help` lists them.
#
# Nothing is installed outside .venv. The stamps in it hold the time of the last installation: it runs again when
# pyproject.toml or constraints.txt is newer. `make PYTHON=python3.13 …` builds the environment with another Python.

PYTHON = python3
VENV = .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check
USE = $(VENV)/.installed
DEV = $(VENV)/.installed-dev
# The libraries that the benchmarks compare with, apart from ours.
PEERS = .venv-peers/.installed
PEER_PYTHON = .venv-peers/bin/python
# mkdocs-material's banner about its successor; the reason for staying is docs/decisions/0002-mkdocs-material.md.
DOCS = NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

quickstart: $(USE) ## install, fetch the default encoder, train on the bundled reviews and predict
	@sh scripts/quickstart.sh $(BIN)

test: $(DEV) ## every check and every test, as CI runs them
	@sh scripts/run-checks.sh $(BIN)

install: $(DEV) ## the environment for development: runtime, tests, documentation

lint: $(DEV) ## style, imports between rooms, licences
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports --no-logo --no-cache
	$(BIN)/python scripts/check_licences.py

types: $(DEV) ## basedpyright
	$(BIN)/basedpyright

docs: $(DEV) ## build the documentation into site/
	$(DOCS)

fast: $(DEV) ## the unit tests that take no time
	$(BIN)/pytest -q -m "not slow" tests/unit

bench: $(DEV) $(PEERS) ## speed beside the peers, the quick form: 192 texts, three rounds, half an hour
	$(BIN)/python benchmarks/speed.py --peers $(PEER_PYTHON) --quick --json runs/bench.json
	$(BIN)/python benchmarks/large_inputs.py --json runs/bench-large.json

bench-full: $(DEV) $(PEERS) ## the published figures, some hours; goes on where it stopped
	$(BIN)/python benchmarks/speed.py --peers $(PEER_PYTHON) --resume --json runs/bench-full.json
	$(BIN)/python benchmarks/large_inputs.py --rows 1000000 --resume --json runs/bench-full-large.json

results: $(USE) ## docs/results.md: English and Chinese reviews, 8,000 rows each, under 20 minutes a run; goes on where it stopped
	$(BIN)/python benchmarks/results.py

clean: ## remove caches and built files (.venv and runs/ stay)
	rm -rf build dist site .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find src tests scripts examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# The rest makes the environment. Each stamp needs the one before, so `make -j` never runs two installations at once.

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  found=$$($(PYTHON) -c 'import sys; print(sys.version.split()[0])' 2>/dev/null || echo missing); \
	  echo "Huiyan needs Python 3.11 or newer; $(PYTHON) is $$found." \
	    "Name another one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
	  echo "No virtual environment could be made. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@touch $@

# torch first and alone: it is by far the largest part, so a failure there shows early and is not done twice.
$(USE): $(VENV)/.made pyproject.toml constraints.txt
	@echo "Installing torch, then Huiyan, into $(VENV): some minutes the first time."
	@$(PIP) install --quiet -c constraints.txt "$$(grep '^torch==' constraints.txt)"
	@$(PIP) install --quiet -c constraints.txt -e '.[all]'
	@touch $@

$(DEV): $(USE)
	@echo "Installing the test and documentation tools into $(VENV)."
	@$(PIP) install --quiet -c constraints.txt -e '.[all,test,docs]'
	@touch $@

$(PEERS): $(VENV)/.made benchmarks/peers.txt
	@echo "Installing the peers into .venv-peers."
	@$(PYTHON) -m venv .venv-peers
	@.venv-peers/bin/pip --disable-pip-version-check install --quiet "$$(grep '^torch==' benchmarks/peers.txt)"
	@.venv-peers/bin/pip --disable-pip-version-check install --quiet -r benchmarks/peers.txt
	@touch $@

.PHONY: help quickstart test install lint types docs fast bench bench-full results clean
