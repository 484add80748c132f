# `make help` lists what there is. A description after a target's `##` is what it prints.
#
# All targets work in .venv, which `make install` makes (and remakes when pyproject.toml or constraints.txt change).

SHELL := /bin/sh
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

DATASET    ?= demo
METHOD     ?=
BACKBONE   ?=
HEAD       ?=
CHECKPOINT ?=
SELECT     ?=
SWEEP      ?= segments
RUNS       ?= runs
OUT        ?= report.html
DO         ?= verify
TABLE      ?=
ROW        ?=
ARGS       ?=
JOBS       ?= 2
DEVICE     ?= cpu

VENV  := .venv
BIN   := $(VENV)/bin
STAMP := $(VENV)/.installed
CLI   := $(BIN)/python -m centerclip_pl
TORCH := $(shell sed -n 's/^torch==/torch==/p' constraints.txt)

# The experiment of `make train` and `make eval`. Without METHOD or BACKBONE the dataset's own default is taken.
PARTS = $(if $(METHOD),--method $(METHOD)) $(if $(BACKBONE),--backbone $(BACKBONE)) $(if $(HEAD),--model.head=$(HEAD))
# A checkpoint's own run names its dataset; another one is taken only where the user says so.
GIVEN_DATASET = $(if $(filter-out file,$(origin DATASET)),--dataset $(DATASET))

# V=1 shows all that pip says.
QUIET := $(if $(V),,--quiet)
# An index with another build of torch, e.g. TORCH_INDEX=https://download.pytorch.org/whl/cpu (a tenth of the download).
# "Extra", because that index has not every version of the other packages; 2.13.0+cpu is preferred to 2.13.0.
TORCH_FROM := $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

##@ Setting up
install: $(STAMP) ## make .venv with exactly the versions of constraints.txt (TORCH_INDEX=..., PYTHON=..., V=1)
	@echo "$(VENV) is ready."

# The first Python that is new enough; `python3.12` may be a stub that only says that it is not installed, so each is run.
$(STAMP): pyproject.toml constraints.txt
	@set -e; \
	new_enough='import sys; sys.exit(sys.version_info < (3, 11))'; \
	python=; \
	for candidate in $(or $(PYTHON),python3 python3.11 python3.12 python3.13); do \
	  if "$$candidate" -c "$$new_enough" >/dev/null 2>&1; then python="$$candidate"; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "Python 3.11 or newer is needed; looked for: $(or $(PYTHON),python3 python3.11 python3.12 python3.13)" >&2; \
	  echo "  -> install it (Debian, Ubuntu: apt install python3.11 python3.11-venv), or name it: make install PYTHON=/path/to/python3" >&2; \
	  exit 1; \
	fi; \
	echo "Making $(VENV) with $$("$$python" --version)"; \
	if ! "$$python" -m venv $(VENV); then \
	  echo "$$python cannot make a virtual environment" >&2; \
	  echo "  -> install its venv module (Debian, Ubuntu: apt install python3-venv), then: rm -rf $(VENV) && make install" >&2; \
	  exit 1; \
	fi; \
	failed() { \
	  echo "pip could not install $$1; its own words are above" >&2; \
	  echo "  -> see whether a package index can be reached, then run 'make install' again (V=1 shows all that pip does)" >&2; \
	  exit 1; \
	}; \
	echo "Installing $(TORCH) (some minutes: 0.2 GB for a CPU, 3 GB with CUDA)"; \
	$(BIN)/python -m pip install $(QUIET) --disable-pip-version-check $(TORCH_FROM) -c constraints.txt $(TORCH) || failed torch; \
	echo "Installing centerclip-pl and what it needs"; \
	$(BIN)/python -m pip install $(QUIET) --disable-pip-version-check -c constraints.txt -e '.[dev]' || failed centerclip-pl; \
	touch $@

# glibc hands every large tensor back to the system when it is freed, and fetches (and zeroes) its pages anew in the next
# step. Keeping them makes a training step on a CPU about a fifth shorter.
# And threads that wait for each other give their core to the processes that decode after some microseconds of spinning
# (not at once, as OMP_WAIT_POLICY=PASSIVE has it: waking up takes longer than most steps of clustering).
export GOMP_SPINCOUNT := 20000
export MALLOC_MMAP_MAX_ := 0
export MALLOC_TRIM_THRESHOLD_ := 17179869184

##@ Training and evaluating
train: $(STAMP) ## train, then test the checkpoint chosen on validation: DATASET=demo METHOD=... HEAD=... BACKBONE=... SELECT=... ARGS="..."
	@$(CLI) train --dataset $(DATASET) $(PARTS) $(if $(SELECT),--select=$(SELECT)) $(ARGS)

eval: $(STAMP) ## test a checkpoint, CHECKPOINT=runs/.../best.ckpt, or without it the backbone as it is (zero-shot)
	@$(CLI) eval $(GIVEN_DATASET) $(PARTS) $(if $(CHECKPOINT),--checkpoint $(CHECKPOINT)) $(ARGS)

memory: $(STAMP) ## predict the memory of a training step, without a GPU: DATASET=msrvtt METHOD=... BACKBONE=... ARGS="..."
	@$(CLI) memory --dataset $(DATASET) $(PARTS) $(ARGS)

data: $(STAMP) ## prepare a dataset's files: DO=download|verify|stats|prepare|cache DATASET=msrvtt ARGS="..."
	@$(CLI) data $(DO) $(DATASET) $(ARGS)

reproduce: $(STAMP) ## train a published row and compare: TABLE=msrvtt-9k ROW=4 (without ROW: list them) ARGS="..."
	@$(CLI) reproduce $(TABLE) $(if $(ROW),--row $(ROW)) $(ARGS)

demo-data: $(STAMP) ## write the demo's videos and captions ('make train' does it by itself)
	@$(CLI) demo-data $(ARGS)

demo-backbone: $(STAMP) ## pretrain the demo's small CLIP again on generated stills (about an hour of CPU)
	@$(BIN)/python experiments/backbones/pretrain_demo.py --out experiments/backbones/demo $(ARGS)

# Without the settings for glibc above: measured as in any other program.
bench: $(STAMP) ## measure what clustering, encoding and training cost: DEVICE=cpu, ARGS="--only encoder --repetitions 10"
	@env -u MALLOC_MMAP_MAX_ -u MALLOC_TRIM_THRESHOLD_ $(BIN)/python -m benchmarks --device $(DEVICE) $(ARGS)

##@ Sweeps and what came of them
# Without JOBS the runs of a sweep come one after the other: beside others, the times that they measure are worth little.
sweep: $(STAMP) ## run a sweep, in W&B where there is a key, else here: SWEEP=segments DATASET=demo JOBS=1 ARGS="--offline"
	@$(CLI) sweep $(SWEEP) --dataset $(DATASET) $(if $(filter-out file,$(origin JOBS)),--jobs=$(JOBS)) $(ARGS)

runs: $(STAMP) ## list what runs found, at what cost: RUNS=runs ARGS="--seeds --sort t2v/R@1"
	@$(CLI) runs $(RUNS) $(ARGS)

report: $(STAMP) ## write one page about runs, which opens offline: RUNS=runs OUT=report.html
	@$(CLI) report $(RUNS) -o $(OUT) $(ARGS)

notebooks: $(STAMP) ## execute the notebooks on runs, figures into notebooks/figures: RUNS=runs ARGS="--only what_is_kept"
	@$(CLI) notebooks $(RUNS) $(ARGS)

##@ Checking
test: $(STAMP) ## run the tests in JOBS=2 processes: ARGS="-k kmedoids"
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(JOBS) --dist=loadfile --durations=10 $(ARGS)

soak: $(STAMP) ## run the long tests: runs killed again and again, thousands of bad inputs, several processes: ARGS="-k kill"
	@OMP_NUM_THREADS=1 HYPOTHESIS_PROFILE=soak $(BIN)/python -m pytest -q -m soak --durations=10 $(ARGS)

lint: $(STAMP) ## check style, types and the directions of imports
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet . || { echo "Some files are not formatted: run 'make format'" >&2; $(BIN)/ruff format --check . ; }
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

format: $(STAMP) ## format the code and mend what can be mended automatically
	@$(BIN)/ruff check --quiet --fix-only .
	@$(BIN)/ruff format .

##@ Other
clean: ## remove .venv and caches; data/ and runs/ stay
	@rm -rf $(VENV) build dist *.egg-info .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@find . -path ./.git -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

help: ## print this
	@awk 'BEGIN {FS = ":.*## "} \
	  /^##@ / {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

.PHONY: install train eval memory data reproduce bench demo-data demo-backbone sweep runs report notebooks test soak lint format clean help
