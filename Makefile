PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
STAMP = $(VENV)/.installed

SEEDS ?= 1 2 3 4 5
BUDGET ?= 60
PAGES = networks models using tables search original certificates records stability codecs bounds survey scale studies

FAST = $(addprefix tests/unit/,coding proof data test_certification.py test_conditions.py test_evaluate.py test_losses.py)

PYTHON_TESTS ?= $(FAST) $(addprefix tests/unit/,cli decoder network search test_doors.py)

.PHONY: certify test test-fast test-python test-random mutation lint types contracts docs site wheel bench check constraints clean

certify: $(STAMP)  ## train, compress, certify and verify on the embedded digits; results in out/
	$(BIN)/bitcert certify --budget $(BUDGET) --out out
	$(BIN)/bitcert verify out/certificate.json

test: $(STAMP)  ## unit tests, laws, attacks, simulated validity, docstring examples
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist worksteal

test-fast: $(STAMP)  ## while you work: codes, proofs, data and counting, within a minute
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist worksteal $(FAST)

test-python:  ## a part of the tests with another Python, in an environment of its own: make test-python PYTHON=python3.13
	$(MAKE) VENV=.venv-$(notdir $(PYTHON)) FAST="$(PYTHON_TESTS)" test-fast

test-random: $(STAMP)  ## the property tests with new examples for every seed: make test-random SEEDS="17 18"
	for seed in $(SEEDS); do \
	  OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist worksteal -m hypothesis \
	    --hypothesis-profile random --hypothesis-seed $$seed || exit 1; \
	done

mutation: $(STAMP)  ## does a test notice every small change? hours; one module: make mutation MODULE=coding/rows
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/mutation.py $(MODULE)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

contracts: $(STAMP)
	$(BIN)/lint-imports

docs: $(STAMP)  ## run every command that the README and these pages print
	OMP_NUM_THREADS=1 $(BIN)/python docs/run_readme.py README.md $(PAGES:%=docs/%.md)

site: $(VENV)/.documented  ## the pages and an API reference as a web site in site/; a dead link is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

wheel: $(STAMP)  ## build wheel and sdist into dist/, install the wheel in a fresh environment, use it elsewhere
	$(BIN)/python docs/run_wheel.py dist

bench: $(STAMP)
	$(BIN)/python benchmarks/certificates.py --quick

check: lint types contracts test docs site

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)

$(VENV)/.documented: $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $(VENV)/.documented

constraints: $(VENV)/.documented  ## write the versions now installed
	$(BIN)/python -m pip freeze --exclude-editable --exclude bitcert | sed 's/+cpu//' > constraints.txt

clean:
	rm -rf $(VENV) out site dist
