# make caption and make test work on a fresh clone: they set up .venv first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: help setup caption test lint types demo bench clean
help:
	@echo "make caption | test | lint | types | demo | bench | setup | clean"

# What running needs, and what developing needs; each is installed when its list has changed.
$(VENV)/.runtime: requirements.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

$(VENV)/.development: requirements-dev.txt $(VENV)/.runtime
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

setup: $(VENV)/.development

caption: $(VENV)/.runtime
	$(BIN)/python main.py --i input/802.jpg --model flan-t5

# Two at once, one thread each: the models of the tests are too small to share out.
test: $(VENV)/.development
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

lint: $(VENV)/.development
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.development
	$(BIN)/mypy

demo: $(VENV)/.development
	$(BIN)/python -m demo.build

bench: $(VENV)/.development
	$(BIN)/python benchmarks/search_knowledge_base.py
	$(BIN)/python benchmarks/build_caption_data.py
	$(BIN)/python benchmarks/score_captions.py

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache
