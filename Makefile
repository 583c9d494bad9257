# Every target works from a fresh clone and makes the environment that it needs. `make help` lists them.
PYTHON ?= python3
PORT ?= 8000
HOST ?= 127.0.0.1
CHROMIUM ?= chromium

.DEFAULT_GOAL := help
.PHONY: help serve test check guide train default-model reliability soak bench-train bench-accuracy bench-losses bench-metric bench-serve bench-service bench-submission test-browser fuzz audit docker-test clean

help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

.venv/ready: pyproject.toml
	$(PYTHON) -m venv --clear .venv
	.venv/bin/python -m pip install --quiet --upgrade pip
	.venv/bin/python -m pip install --quiet --editable .
	touch $@

.venv-dev/ready: pyproject.toml
	$(PYTHON) -m venv --clear .venv-dev
	.venv-dev/bin/python -m pip install --quiet --upgrade pip
	.venv-dev/bin/python -m pip install --quiet --editable '.[dev]'
	touch $@

.venv-service/ready: pyproject.toml
	$(PYTHON) -m venv --clear .venv-service
	.venv-service/bin/python -m pip install --quiet --upgrade pip
	.venv-service/bin/python -m pip install --quiet --editable '.[test]'
	touch $@

serve: .venv/ready ## Start the service in the foreground (PORT=8000, HOST=127.0.0.1)
	exec .venv/bin/jaguar-reid serve --host $(HOST) --port $(PORT)

check: .venv-dev/ready ## Format, lint, types, import contracts
	.venv-dev/bin/ruff format --check .
	.venv-dev/bin/ruff check .
	.venv-dev/bin/mypy
	.venv-dev/bin/lint-imports

test: .venv-dev/ready .venv-service/ready ## All tests, then the engine's and the service's where torch is not installed
	.venv-dev/bin/python -m pytest --cov --cov-report=term --cov-fail-under=95
	.venv-dev/bin/coverage report --include='app/reid/*' --omit='app/reid/network.py,app/reid/pooling.py,app/reid/torch_runtime.py' --fail-under=100
	.venv-service/bin/python -m pytest tests/reid tests/service --ignore=tests/reid/torch -p no:cacheprovider

guide: .venv/ready .venv-dev/ready ## The README's commands in a scratch copy, those that train and serve as well, on few drawn photos
	GUIDE=full .venv-dev/bin/python -m pytest -q tests/guide

train: .venv-dev/ready ## Train on DATA into BUNDLE with CONFIG, for example DATA=data BUNDLE=model_store/mine
	.venv-dev/bin/jaguar-train fit $(or $(CONFIG),training/configs/convnext_atto.toml) --data $(or $(DATA),data) --out $(or $(BUNDLE),model_store/mine) $(ARGS)

DISTIL = .venv-dev/bin/jaguar-train distill --pictures runs/sources/pictures --teacher runs/sources/teacher.pth
default-model: .venv-dev/ready ## Fetch pictures and teacher, and distil the bundle that ships, model_store/default
	.venv-dev/bin/jaguar-train sources --out runs/sources
	$(DISTIL) training/configs/distill.toml --out runs/first --run runs/lesson-1 $(ARGS)
	$(DISTIL) training/configs/distill_second.toml --out model_store/default --run runs/lesson-2 $(ARGS)

reliability: .venv-dev/ready ## The 15 cases at full length; services, caches, jobs and fits killed with -9 (KILLS=50 and 20 fits)
	RELIABILITY=full KILLS=$(KILLS) .venv-dev/bin/python -m pytest -q -p tests.noskip tests/reliability/test_case_*.py
	.venv-dev/bin/python tests/reliability/kill_cache.py --kills $(or $(KILLS),50)
	.venv-dev/bin/python -m tests.reliability.kill_jobs --kills $(or $(KILLS),50)
	.venv-dev/bin/python tests/reliability/kill_fit.py --kills $(or $(KILLS),20)

soak: .venv-dev/ready ## Mixed traffic, right and wrong, for MINUTES=10: nothing unexpected, memory flat
	.venv-dev/bin/python tests/reliability/soak.py --minutes $(or $(MINUTES),10)

bench-train: .venv-dev/ready ## Images/s of fit over a bare training loop (DATA=../shared/data/nyala)
	.venv-dev/bin/python tests/bench/train.py $(if $(DATA),--data $(DATA))

bench-accuracy: .venv-dev/ready ## fit over wildlife-tools' ArcFace training, on nyala (ARGS='--seeds 5 --epochs 4')
	[ -d runs/wildlife-tools ] || .venv-dev/bin/python -m pip install --quiet --no-deps --target runs/wildlife-tools \
	    wildlife-tools==0.0.9
	PYTHONPATH=runs/wildlife-tools .venv-dev/bin/python tests/bench/accuracy.py --within side $(ARGS)

bench-losses: .venv-dev/ready ## The loss table, an hour on two cores; goes on where it was stopped (ARGS='--seeds 5')
	.venv-dev/bin/python tests/bench/losses.py $(ARGS)

bench-metric: .venv-dev/ready ## The metric over pytorch-metric-learning's calculator
	.venv-dev/bin/python tests/bench/metric.py

bench-service: .venv/ready ## Memory at rest, and a submission over known embeddings
	.venv/bin/python tests/bench/service.py

bench-serve: .venv-dev/ready ## Throughput over LitServe, a blocking FastAPI and the ceiling (ARGS='--rounds 5')
	.venv-dev/bin/python tests/bench/serve.py $(ARGS)

bench-submission: .venv-dev/ready ## 371 photos of 6 MP: cold, repeated, after a restart, memory (ARGS='--rounds 2')
	.venv-dev/bin/python tests/bench/submission.py $(ARGS)

test-browser: .venv-dev/ready ## The page in headless Chromium, with axe (CHROMIUM=chromium; SCREENSHOTS=1 for the README's)
	@command -v $(CHROMIUM) >/dev/null || [ "$$(id -u)" != 0 ] || { apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
	    apt-get install -y -qq --no-install-recommends chromium fonts-inter; } || true
	@command -v $(CHROMIUM) >/dev/null || { echo "make test-browser needs Chromium: apt-get install chromium," \
	    "or CHROMIUM=/path/to/it" >&2; exit 1; }
	.venv-dev/bin/python -c 'import axe_playwright_python' 2>/dev/null \
	    || .venv-dev/bin/python -m pip install --quiet --editable '.[browser]'
	CHROMIUM=$$(command -v $(CHROMIUM)) .venv-dev/bin/python -m pytest -q -p tests.noskip tests/browser

fuzz: .venv-dev/ready ## Any bytes at decode_image for SECONDS=60; what breaks it stays in runs/fuzz
	.venv-dev/bin/python -c 'import atheris' 2>/dev/null || .venv-dev/bin/python -m pip install --quiet --editable '.[fuzz]' || true
	.venv-dev/bin/python -m tests.fuzz.fuzz_decode --seconds $(or $(SECONDS),60)

audit: .venv/ready .venv-dev/ready ## Known vulnerabilities of what is installed; asks pypi.org (ARGS='-s osv' for another)
	.venv-dev/bin/python tests/audit.py .venv .venv-dev $(if $(ARGS),-- $(ARGS))

docker-test: ## Build the container, start it with compose, ask it, take it down
	bash tests/docker/test_compose.sh

clean: ## Remove environments, caches and runs; bundles stay
	rm -rf .venv .venv-dev .venv-service .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .coverage runs build dist
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
