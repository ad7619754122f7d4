# Everything from a fresh checkout: `make demo` shows Willis at work, `make test` checks it.
# Needed: Python >= 3.11 with venv, and a package index. Nothing outside this folder is changed.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
DEMO   ?= runs/demo

# Another build of torch, kept for later calls: make TORCH="torch==2.13.0 --index-url URL" demo
TORCH  ?= $(shell cat $(VENV)/torch.choice 2>/dev/null)
WITH_EXAMPLES := $(VENV)/with-examples
READY  := $(VENV)/ready-$(shell printf '%s' '$(TORCH)' | cksum | cut -d' ' -f1)

# Test machines share cores: threads that wait for each other are slower than one.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest
# The tests of a file stay together: they share what they set up.
WORKERS ?= 2
APART  := -n $(WORKERS) --dist loadfile
COVER  := --cov=willis.shared --cov=willis.client --cov=willis.server --cov-report=term

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow test-federation test-examples test-gpu lint format protobuf clean clean-all

help: ## List what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## Install into .venv, once

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "Willis needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1)." \
	         "Name another: make PYTHON=python3.12 ..." >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { \
	    rm -rf $(VENV); echo "no virtual environment could be made: is Python's venv module installed?" \
	         "(Debian, Ubuntu: apt-get install python3-venv)" >&2; exit 2; }
	@rm -f $(VENV)/ready-*
	@if [ -n '$(TORCH)' ]; then \
	    grep -v '^torch==' constraints.txt > $(VENV)/pins.txt && $(BIN)/python -m pip install $(TORCH); \
	else \
	    cp constraints.txt $(VENV)/pins.txt; \
	fi
	$(BIN)/python -m pip install --quiet -c $(VENV)/pins.txt hatchling editables
	$(BIN)/python -m pip install --no-build-isolation -c $(VENV)/pins.txt -e '.[dev,onnx,ray]'
	@printf '%s' '$(TORCH)' > $(VENV)/torch.choice
	@touch $@

demo: $(READY) ## Four virtual hospitals train a generator, end to end, in minutes
	@if [ -e $(DEMO)/report.html ]; then \
	    echo "$(DEMO) is finished: open $(DEMO)/report.html. For another run: make DEMO=runs/NAME demo"; \
	elif [ -e $(DEMO)/study.toml ]; then \
	    echo "$(DEMO) is unfinished: resuming it"; \
	    $(BIN)/willis simulate simulations/studies/demo.toml --virtual 4 --out $(DEMO) --resume; \
	else \
	    $(BIN)/willis simulate simulations/studies/demo.toml --virtual 4 --out $(DEMO); \
	fi

test: lint ## Style, types, walls, tests and coverage
	$(PYTEST) $(APART) $(COVER)

test-slow: $(READY) ## Tests that take minutes
	$(PYTEST) -m slow

test-federation: $(READY) ## Attacks and faults on real hubs and sites, as processes
	$(PYTEST) $(APART) -m "federation and not slow" --timeout 1200

test-examples: $(WITH_EXAMPLES) ## The examples of docs/, with nnU-Net, MONAI, torchio, BIDS
	$(PYTEST) $(APART) -m "examples and not slow" tests/examples

# nnU-Net brings torchvision for networks that are not used here. One that was built for another torch than the one
# that is there is worse than none: it ends whoever looks for it.
$(WITH_EXAMPLES): $(READY)
	$(BIN)/python -m pip install --no-build-isolation -c $(VENV)/pins.txt -e '.[examples]'
	@$(BIN)/python -c 'import torchvision' 2>/dev/null || $(BIN)/python -m pip uninstall --quiet --yes torchvision
	@touch $@

test-gpu: $(READY) ## Tests that need a CUDA device
	$(PYTEST) -m gpu

lint: $(READY) ## Style and types, changing nothing
	$(BIN)/ruff check
	$(BIN)/ruff format --check --quiet
	$(BIN)/pyright

format: $(READY) ## Write all files in the house's style
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

PROTO := willis/shared/collection/collection.proto
protobuf: $(READY) ## Write the code of the collection service from its .proto
	cd shared && ../$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. --grpc_python_out=. $(PROTO)

clean: ## Remove caches and built files; .venv and runs/ stay
	rm -rf .pytest_cache .ruff_cache .hypothesis .import_linter_cache .coverage .coverage.* coverage.xml dist build
	find shared client server simulations tests docs -name __pycache__ -type d -prune -exec rm -rf {} +

clean-all: clean ## Remove .venv too
	rm -rf $(VENV)
