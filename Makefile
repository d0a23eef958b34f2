# make install | demo | test | lint       (make help)
PYTHON ?= python3
VENV   ?= .venv
TORCH  ?= auto
KEEP   ?=
TESTS  ?= tests
WORKERS ?= 2
PICTURES ?=
DATA ?=
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
export OMP_NUM_THREADS ?= 2
JS     := tests/javascript
NPM    := $(shell command -v npm 2>/dev/null)

.PHONY: help install demo test lint lint-python lint-javascript format generate docs pictures package constraints clean

help:
	@echo "make install             environment in $(VENV): pinned versions; CPU build of torch where there is no GPU"
	@echo "make install TORCH=torch the build of torch that pip finds first, whatever the machine"
	@echo "make demo                a simulated scan, denoised live, with a table at the end (KEEP=1: leave it up)"
	@echo "make test                the whole test suite (TESTS=tests/unit: a part of it; WORKERS=0: in one process)"
	@echo "make docs                the documentation as a site in build/site; a broken link or a missing docstring is an error"
	@echo "make generate            writes the generated files anew: schema, OpenAPI, tables"
	@echo "make pictures            the pictures of the documentation anew, on an idle machine (PICTURES='film spiral': some; DATA=folder of measured files)"
	@echo "make package             sdist and wheel in dist/, installed into empty environments"
	@echo "make lint                ruff, mypy, layers; eslint and tsc for the dashboard where npm is installed"

install: $(STAMP)

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "make: no $(PYTHON) here; install Python 3.11 or newer, or say PYTHON=/path/to/python"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "make: %s is Python %d.%d; quietbeam needs 3.11 or newer: say PYTHON=/path/to/python3.11" % (sys.executable, *sys.version_info[:2]))'
	@$(PYTHON) -m venv $(VENV) || { echo "make: cannot make $(VENV); on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }

$(STAMP): pyproject.toml constraints.txt deploy/install.py | $(BIN)/python
	@$(BIN)/python deploy/install.py --torch "$(TORCH)"
	@touch $@

demo: install
	$(BIN)/quietbeam demo $(if $(KEEP),--keep)

test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadscope $(TESTS)

lint: lint-python lint-javascript

lint-python: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

ifdef NPM
lint-javascript: $(JS)/node_modules/.package-lock.json
	npm --prefix $(JS) run --silent lint

$(JS)/node_modules/.package-lock.json: $(JS)/package-lock.json
	npm --prefix $(JS) ci --no-audit --no-fund
	@touch $@
else
lint-javascript:
	@echo "make: no npm here: the dashboard's JavaScript is not checked (Debian and Ubuntu: apt-get install nodejs npm)"
endif

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
ifdef NPM
	@[ ! -d $(JS)/node_modules ] || npm --prefix $(JS) run --silent format
endif

generate: install
	$(BIN)/python -m quietbeam config schema > schema.new && mv schema.new docs/reference/config.schema.json
	$(BIN)/python -m tests.settings_page
	$(BIN)/python -m quietbeam serve --write-openapi docs/reference/openapi.json
	$(BIN)/python -m tests.support
	$(BIN)/python -m tests.monitoring_page

docs: install
	$(BIN)/mkdocs build --strict --quiet --site-dir build/site
	@echo "make: open build/site/index.html"

pictures: install
	$(BIN)/python -m docs.pictures $(PICTURES) $(if $(DATA),--data $(DATA))

package: install
	rm -rf dist
	$(BIN)/python -m hatchling build -d dist
	$(BIN)/python -m tests.light_install --dist dist

constraints: install
	$(BIN)/python deploy/install.py --freeze > constraints.new && mv constraints.new constraints.txt

clean:
	rm -rf .run build dist .pytest_cache .mypy_cache .ruff_cache $(JS)/node_modules
