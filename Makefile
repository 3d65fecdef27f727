# make demo    install what is needed, prune the bundled model, prove it, write a report
# make test    all tests; the Keras converter's in an environment of their own
# make test-browser  all journeys in a browser, of which `make test` takes the main ones; PYTEST_ARGS="-k shell", for example
# make test-crash  kill 200 programs at random moments and look what is left of the workspace
# make check   format, lint and types, changing nothing
# make format  put the files in the form that `make check` asks for
# make env-bench  .venvs/bench, for the scripts in benchmarks/
# make bench-app, bench-mask, bench-coverage, bench-keep-share, bench-scaling, bench-big-model, bench-map-lap, bench-repair,
#      bench-scan, bench-scale, bench-speed, bench-scoring, bench-training, bench-taylor, bench-workspace  the tables of docs/benchmarks.md
# make clean   remove what building and testing leave; `make distclean` the environments too

PYTHON ?= $(shell command -v python3.11 || command -v python3)
ENV := $(PYTHON) .ci/env.py
MAIN := .venv/bin/python
KERAS := .venvs/keras/bin/python
BENCH := .venvs/bench/bin/python
PYTEST_ARGS ?=
BENCH_ARGS ?=
CRASH_ARGS ?= --kills 200

.PHONY: demo test test-browser test-crash check format browser env env-keras env-bench clean distclean
.PHONY: bench-coverage bench-keep-share bench-scaling bench-big-model bench-map-lap bench-repair bench-scan bench-scale bench-speed bench-scoring bench-training bench-taylor bench-workspace bench-app bench-mask
.DEFAULT_GOAL := test

demo:
	@$(ENV) demo
	.venvs/demo/bin/onnxprune demo

# TensorFlow cannot share an environment with the rest. There its tests must run: a skip is a failure.
test: env env-keras browser
	$(KERAS) -m pytest -p tests.no_skips tests/converters/test_keras.py
	$(MAIN) -m pytest $(PYTEST_ARGS)

test-browser: env browser
	ONNXPRUNE_JOURNEYS=all $(MAIN) -m pytest tests/dash_ui/browser $(PYTEST_ARGS)

test-crash: env
	$(MAIN) -m tests.workspace.crash $(CRASH_ARGS)

check: env
	$(MAIN) -m ruff format --check .
	$(MAIN) -m ruff check .
	$(MAIN) -m mypy

format: env
	$(MAIN) -m ruff format .
	$(MAIN) -m ruff check --fix .

env:
	@$(ENV) main

# A Chromium for the journeys, unless there is one.
browser: env
	@$(MAIN) .ci/browser.py

env-keras:
	@$(ENV) keras

env-bench:
	@$(ENV) bench

# BENCH_ARGS="--quick --markdown", for example
bench-coverage bench-keep-share bench-scaling bench-big-model bench-map-lap bench-repair bench-scan bench-scale bench-speed bench-scoring bench-training bench-taylor bench-workspace bench-app bench-mask: bench-%: env-bench
	$(BENCH) -m benchmarks.$(subst -,_,$*) $(BENCH_ARGS)

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis demo-output
	find onnxprune dash_ui converters tests benchmarks examples .ci -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

distclean: clean
	rm -rf .venv .venvs
