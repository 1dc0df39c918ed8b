# Every target works on a fresh clone: it sets up .venv first.
SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Options for pytest: make test PYTEST_ARGS="-k prompt -x"
PYTEST_ARGS ?=

# One thread each: the models of the tests are too small to share out. One process more than two
# cores, since many tests wait for processes of their own.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder
# Shows what is large, as pip begins to download it; errors and warnings come through.
INSTALL := set -o pipefail; $(BIN)/python -u -m pip install --disable-pip-version-check
SHOW := | awk '/^ *(Downloading|Using cached).*[0-9] [MG]B\)/ { print "  " $$0; fflush() } \
	/^Installing collected/ { print "  Unpacking " NF - 3 " packages"; fflush() }'

.PHONY: help setup caption test test-all coverage lint types docs site figures demo bench clean
help:
	@echo "make caption    caption input/802.jpg"
	@echo "make test       the tests, without the slow ones"
	@echo "make test-all   every test"
	@echo "make coverage   make test, with the lines that no test runs (htmlcov/index.html)"
	@echo "make lint       ruff: rules and format"
	@echo "make types      mypy"
	@echo "make docs       write the comments of the YAML files and the tables of the documents again"
	@echo "make site       build these documents with the Python API as a website, into site/"
	@echo "make figures    measure all figures of the documents again (hours; resumable)"
	@echo "make demo       build the demo data and models again"
	@echo "make bench      speed and memory"
	@echo "make setup      only install, for developing"
	@echo "make clean      remove what these made, .venv too"

# What running needs, and what developing needs; each is installed when its list has changed.
$(VENV)/.runtime: requirements.txt pyproject.toml
	@test -x $(BIN)/python || { echo "Making $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "Installing what requirements.txt lists (a few minutes the first time)"
	@$(INSTALL) --editable . $(SHOW)
	@touch $@

$(VENV)/.development: requirements-dev.txt $(VENV)/.runtime
	@echo "Installing what requirements-dev.txt lists"
	@$(INSTALL) --requirement requirements-dev.txt $(SHOW)
	@touch $@

setup: $(VENV)/.development

caption: $(VENV)/.runtime
	$(BIN)/python main.py --i input/802.jpg --model flan-t5

test: $(VENV)/.development
	$(PYTEST) -m "not slow" $(PYTEST_ARGS)

test-all: $(VENV)/.development
	$(PYTEST) $(PYTEST_ARGS)

coverage: $(VENV)/.development
	$(PYTEST) -m "not slow" --cov --cov-report=term:skip-covered --cov-report=html $(PYTEST_ARGS)

lint: $(VENV)/.development
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.development
	$(BIN)/mypy

figures: $(VENV)/.development
	$(BIN)/python -m benchmarks.figures

docs: $(VENV)/.development
	$(BIN)/python -m igrag.commands.document

# The variable hides the theme's banner about its successor, which is no warning about this site.
site: $(VENV)/.development
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "site/index.html; with search: $(BIN)/python -m http.server --directory site"

demo: $(VENV)/.development
	$(BIN)/python -m demo.build

bench: $(VENV)/.development
	$(BIN)/python benchmarks/search_knowledge_base.py
	$(BIN)/python benchmarks/build_caption_data.py
	$(BIN)/python benchmarks/score_captions.py

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache .coverage htmlcov build site *.egg-info
