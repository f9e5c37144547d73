# Two commands: `make repro` and `make test`. Everything else is listed by `make help`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
# What is wrong with the data is for `parapet check` to say, in one sentence.
PULL   := $(BIN)/dvc pull --quiet data.dvc 2>/dev/null || true
# DVC calls `parapet` by name.
export PATH := $(abspath $(BIN)):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help install check repro run pipeline test coverage mutants fuzz faults test-slow test-containers images test-gpu lint audit lock ui clean

help: ## list the verbs
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else f"Parapet needs Python 3.11 or newer, and $(PYTHON) is {v.major}.{v.minor}; call make PYTHON=python3.12, for example.")'
	@echo "installing into $(VENV) (about 6.6 GB, some minutes)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@touch $@

install: $(READY) ## make .venv and install into it

check: $(READY) ## read params.yaml and the data; say in one sentence what is wrong
	@$(PULL)
	@$(BIN)/parapet check --complete

repro: check ## data, search, evaluation, front and report: the whole pipeline through DVC
	@$(BIN)/dvc repro
	@echo "open artifacts/report/index.html"

run: check ## the same without DVC, into runs/latest
	@$(BIN)/parapet run --out runs/latest

pipeline: $(READY) ## compile the Kubeflow pipeline and run it locally on the digits
	@$(PULL)
	@$(BIN)/python -m pipelines compile
	@$(BIN)/python -m pipelines local --params pipelines/quick.yaml

# One process a core, 8 at most (1.5 GB each); the tests of a file share what they build, and stay together. JOBS=0: all in one process.
JOBS     ?= logical
PARALLEL := -n $(JOBS) --maxprocesses 8 --dist loadfile

test: $(READY) lint ## lint, import rules and every test that is neither slow nor on a GPU
	@$(PULL)
	@$(BIN)/python -m pytest $(PARALLEL) -m "not slow and not gpu"

# Lines and branches of what numbers and promotions depend on; each of these by itself.
COVERED := attacks training search deployment data
PROMOTION := */parapet/steps/promotion.py,*/parapet/promotion/*,*/parapet/registry/*

coverage: $(READY) ## how much of the code the tests run, their child processes included (90 % where numbers come from)
	@$(PULL)
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest $(PARALLEL) --junitxml build/tests.xml -m "not slow and not gpu"
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report --sort=cover
	@for part in $(COVERED); do echo "$$part:"; \
	  $(BIN)/coverage report --format=total --fail-under=90 --include="*/parapet/$$part/*" || exit 1; done
	@echo "promotion:"; $(BIN)/coverage report --format=total --fail-under=90 --include="$(PROMOTION)"

mutants: $(READY) ## change the code in 300 drawn places and see whether a test fails; in parts: PART=1/10
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[mutation]'
	@$(BIN)/python -m tests.mutation --part $(or $(PART),1/1) --seed $(or $(SEED),0)

test-slow: $(READY) ## the tests that take minutes
	@$(BIN)/python -m pytest -m slow

# Without a PART all of them one after the other, for an hour or so.
FAULTS := kills full_disk read_only damage pairs clock servers workers

faults: $(READY) ## kills, full disks, damage and more on purpose: make faults PART=kills SEED=0 COUNT=20
	@$(BIN)/python -m tests.faults $(or $(PART),$(FAULTS)) --seed $(or $(SEED),0) --count $(or $(COUNT),20) \
	  $(if $(FIRST),--first $(FIRST)) $(if $(CASE),--case $(CASE)) $(if $(VERBS),--verbs "$(VERBS)")

test-containers: $(READY) ## build the cpu image; run the pipeline, and MLflow from the manifests, in containers (needs Docker, a quarter of an hour)
	@$(PULL)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[images,containers]'
	@$(BIN)/python -m pytest -m slow tests/containers

images: $(READY) ## build the images, print their sizes (and digests, with REGISTRY=host/path), write SBOMs to build/sbom
	@$(PULL)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[images]'
	@$(BIN)/python -m pipelines.images $(if $(REGISTRY),--registry $(REGISTRY)) $(if $(TORCH_INDEX),--torch-index $(TORCH_INDEX))

test-gpu: $(READY) ## the tests that need a CUDA device
	@$(BIN)/python -m pytest -m gpu

fuzz: $(READY) ## hostile input: make fuzz PART=params SEED=0 CASES=5000, or all of it, 100,000 cases
	@$(BIN)/python -m tests.fuzz $(if $(PART),--part $(PART)) $(if $(SEED),--seed $(SEED)) \
		$(if $(START),--start $(START)) $(if $(CASES),--cases $(CASES))

# It warns of every part of a line in which an excuse is not needed; the second run, after a finding, shows all it says.
BANDIT := $(BIN)/bandit --quiet --recursive --configfile pyproject.toml src pipelines components k8s benchmarks

lint: $(READY) ## ruff, mypy (types), bandit (insecure code), and that dependencies have ranges, pins and hashes; needs no network
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BANDIT) 2>/dev/null || $(BANDIT)
	@$(BIN)/python -m pytest -q tests/test_dependencies.py

audit: $(READY) ## known vulnerabilities of what is pinned, by pip-audit, which asks a database over the network
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[audit]'
	@$(BIN)/pip-audit --strict --no-deps --disable-pip --requirement components/requirements/base.txt --requirement components/requirements/cuda.txt

lock: $(READY) ## write components/requirements anew: what the images install, by hashes (needs a package index)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[lock]'
	@$(BIN)/python -m pipelines.lock $(if $(TORCH_INDEX),--torch-index $(TORCH_INDEX))

ui: $(READY) ## MLflow's pages on http://127.0.0.1:5000, where the report's links lead
	@$(BIN)/mlflow ui --backend-store-uri sqlite:///mlflow.db

clean: ## remove what runs made: artifacts, cache, MLflow's files
	rm -rf artifacts .parapet mlflow.db mlruns runs
	@echo "DVC keeps outputs in .dvc/cache too: rm -rf .dvc/cache makes it train again"
