# The verbs of the project. The first two need nothing but Python 3.11 or later and a C++ compiler:
#
#   make train   creates .venv, installs, trains PPO-TrXL on a memory task until it is solved, and says where the learning curve is
#   make test    creates .venv, installs, runs the tests
#
#   make build        (re)builds the native libraries in place           make lint       formatting, lint and types (make format mends the first)
#   make bench        bench/ops, envs, nn and training in one go, results stored in bench/results; bench/learning is left out, it takes hours
#   make scoreboard   bench/learning: the presets over several seeds, stored likewise, and docs/scoreboard.md; goes on where it was interrupted,
#                     and leaves out what has a result (ROWS='vmpo/* */CartPole-v1' picks rows)
#   make clean        removes what was built
#   make test-gpu     op tests on a GPU     make bench-gpu  op benches on a GPU     (one command each, no network, no .venv)
#   make test-slow    the tests marked slow: tensors of more than 2^31 elements (up to 20 GB), the outcome stored in bench/results
#   make test-sanitize   tests of ops and replay on a build with address and undefined-behaviour sanitizers
#   make attack          random kills, signals, damaged and hostile files, flags, options, numbers that are not finite: whatever people and machines do
#                        to a run, in minutes; ATTACK_TIMES=20 takes hours; the counts are stored in bench/results
#   make fuzz            10,000 random calls of all ops on that build (FUZZ_CALLS, FUZZ_SEED), the result stored in bench/results
#
# VENV=dir puts the environment elsewhere; PYTHON=python3.12 chooses the interpreter; FASTRL_CUDA=auto|on|off as in docs/install.md.

PYTHON ?= python3
VENV ?= .venv
TRAIN_FLAGS ?= --env-id ProofofMemory-v0 --total-steps 50000 --eval-interval 2500 --eval-episodes 100 --stop-at-return 1.18
BIN := $(VENV)/bin
# an environment variable, unlike pip's option, reaches isolated build environments too
INSTALL := PIP_CONSTRAINT=$(CURDIR)/constraints.txt $(BIN)/python -m pip install --quiet --disable-pip-version-check
NATIVE := $(shell find csrc cmake -type f) CMakeLists.txt setup.py pyproject.toml constraints.txt

.PHONY: all format build train test lint bench bench-ops bench-scripts scoreboard test-gpu bench-gpu sanitized test-slow test-sanitize fuzz attack clean
.DELETE_ON_ERROR:

all: build

# --- environment: one stamp for each set of extras; native sources changed -> installed anew
$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(BIN)/python $(NATIVE)
	@echo "installing into $(VENV); this takes a minute or two"
	$(INSTALL) --editable .
	@touch $@

$(VENV)/.installed-dev: $(BIN)/python $(NATIVE)
	@echo "installing with the tools for development into $(VENV); this takes a minute or two"
	$(INSTALL) --editable '.[dev]'
	@touch $(VENV)/.installed $@

$(VENV)/.installed-bench: $(BIN)/python $(NATIVE)
	$(INSTALL) --editable '.[dev,bench-peers]'
	@touch $(VENV)/.installed $(VENV)/.installed-dev $@

# --- verbs
build: $(VENV)/.installed

train: $(VENV)/.installed
	$(BIN)/fastrl train ppo-trxl $(TRAIN_FLAGS)

# a worker for each core; files stay whole, since some make what their tests share
JOBS ?= $(shell nproc)
test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile

format: $(VENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $$(find csrc -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh')

test-slow: $(VENV)/.installed-dev
	$(BIN)/python -m pytest tests -m slow --slow --junitxml=build/slow.xml
	$(BIN)/python bench/record_tests.py build/slow.xml slow-tests

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run -Werror $$(find csrc -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh')
	$(BIN)/mypy

bench: bench-ops bench-scripts

BENCH_OPTIONS := --benchmark-json=build/bench.json --benchmark-disable-gc --benchmark-max-time=0.4 --benchmark-quiet --timeout=3000
bench-ops: $(VENV)/.installed-bench
	@mkdir -p build
	OMP_NUM_THREADS=2 $(BIN)/python -m pytest bench/ops -m 'not cuda' $(BENCH_OPTIONS)

# environments, layers and training: scripts, each of which says what it measures
bench-scripts: $(VENV)/.installed-bench
	@set -e; for script in $(wildcard bench/ops_special/*.py bench/envs/*.py bench/nn/*.py bench/training/*.py); do \
		echo "== $$script"; $(BIN)/python $$script --write; done

ROWS ?=
scoreboard: $(VENV)/.installed-bench
	$(BIN)/python bench/learning/scoreboard.py $(if $(ROWS),--rows $(patsubst %,'%',$(ROWS)))

# --- on a machine with a GPU: PYTHON is the interpreter that has torch 2.11 or later, pytest and pytest-benchmark; nothing is installed
define GPU_BUILD
cmake -S . -B build/gpu $(if $(shell command -v ninja),-G Ninja) -DFASTRL_CUDA=on -DFASTRL_DEV=ON -DCMAKE_INSTALL_PREFIX=$(CURDIR)/fastrl \
	-DPython_EXECUTABLE=$$($(PYTHON) -c 'import sys; print(sys.executable)')
cmake --build build/gpu --parallel
cmake --install build/gpu
endef
GPU_PYTEST = PYTHONPATH=$(CURDIR) $(PYTHON) -m pytest

test-gpu:
	$(GPU_BUILD)
	$(GPU_PYTEST) tests/ops

bench-gpu:
	$(GPU_BUILD)
	@mkdir -p build
	$(GPU_PYTEST) bench/ops -m cuda $(filter-out --timeout%,$(BENCH_OPTIONS))

# --- sanitizers: a copy of the package with its own build, so that the ordinary one stays as it is
SANITIZED := build/sanitized
# torch and the interpreter are not instrumented: their leaks are not ours, and libasan must be there before they are. An allocation that
# no machine can serve is refused, as without sanitizers.
ASAN = LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libstdc++.so)" \
	ASAN_OPTIONS=detect_leaks=0:handle_segv=1:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1

sanitized: $(VENV)/.installed-dev
	rm -rf $(addprefix $(SANITIZED)/,fastrl csrc cmake tests) && mkdir -p $(SANITIZED)
	cp -r fastrl csrc cmake tests CMakeLists.txt setup.py pyproject.toml README.md LICENSE $(SANITIZED)/
	rm -f $(SANITIZED)/fastrl/*.so
	cd $(SANITIZED) && FASTRL_SANITIZE=1 $(abspath $(BIN))/python setup.py --quiet build_ext --inplace

test-sanitize: sanitized
	cd $(SANITIZED) && $(ASAN) PYTHONPATH=. FASTRL_SANITIZE=1 $(abspath $(BIN))/python -m pytest tests/ops tests/nn/test_dense.py tests/data/test_sequence_*.py \
		-p no:cacheprovider -k 'not default_back_end and not two_to_the_31'

FUZZ_CALLS ?= 10000
FUZZ_SEED ?= 0
fuzz: sanitized
	cd $(SANITIZED) && $(ASAN) PYTHONPATH=. $(abspath $(BIN))/python tests/ops/fuzzing.py \
		--calls $(FUZZ_CALLS) --seed $(FUZZ_SEED) --write $(CURDIR)/bench 2>$(CURDIR)/build/fuzz.log || \
		{ tail -60 $(CURDIR)/build/fuzz.log; exit 1; }

ATTACK_TIMES ?= 1
ATTACK_SEED ?= 0
attack: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -W ignore bench/attack/attack.py --times $(ATTACK_TIMES) --seed $(ATTACK_SEED) --write

clean:
	rm -rf build dist fastrl.egg-info fastrl/*.so $(VENV)/.installed*
