# Each command sets up .venv first when that is needed; nothing has to be installed by hand.
BIN := .venv/bin
.PHONY: setup run test test-all lab down check format swagger reference rehearse-azure bench

setup:
	@if grep -q "$$(printf '\r')" environment_setup/install-requirements.sh; then \
	    echo "This checkout has Windows line endings (CRLF), which bash and the data's digest do not take." >&2; \
	    echo "Commit what you have changed, then (or clone it again): git rm -rq --cached . && git reset -q --hard" >&2; exit 2; fi
	@environment_setup/install-requirements.sh

run: setup  ## the whole runbook on this machine
	@$(BIN)/runbook run all $(ARGS)

test: setup  ## everything once, one of each kind of fault
	@$(BIN)/pytest -q --numprocesses 2 --dist loadfile --no-loadscope-reorder -m "not slow and not browser" $(ARGS)

test-all: setup  ## every fault, every page in a browser; more than an hour
	@$(BIN)/pytest -q --numprocesses 2 --dist loadfile --no-loadscope-reorder $(ARGS)

lab: setup  ## JupyterLab on the notebooks; what it writes into them stays out of git
	@git config filter.notebook.clean ".venv/bin/python environment_setup/clean_notebook.py" || true
	@$(BIN)/jupyter lab --notebook-dir notebooks

down: setup  ## stop everything the local platform runs
	@$(BIN)/runbook down

check: setup  ## format, lint, types, anatomy
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/runbook check

format: setup
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix-only .

swagger: setup  ## deployment/swagger.json from the request's fields, after a change of deployment/request.py
	@$(BIN)/python -m runbook.lint.swagger

reference: setup  ## renews the tables that nbval compares; the change shows in review
	@$(BIN)/python tests/nbval/nbval_reference.py

rehearse-azure: setup  ## the whole azure plan against a stand-in; proves nothing about Azure itself
	@RUNBOOK_REHEARSAL=1 PYTHONPATH=tests $(BIN)/python -m azure_standin $(BIN)/runbook run all --target azure $(ARGS)

bench: setup  ## the benchmarks; run on purpose, on a quiet machine
	@$(BIN)/pytest -q -s -o python_files='bench_*.py' -o pythonpath=tests/platform/local tests/benchmarks $(ARGS)
