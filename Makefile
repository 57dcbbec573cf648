# One command sets up, one runs the demo, one runs what CI runs. `make help` lists them.
PYTHON ?= python3
SECONDS ?= 600
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
# Two stamps, so that a cargo that is installed later is noticed.
NATIVE_STAMP := $(VENV)/.native-$(if $(shell command -v cargo),built,missing)
NATIVE_SOURCES := native/Cargo.toml native/pyproject.toml $(shell find native/src -name '*.rs')
# Outside of the checkout: a second clone then builds in seconds.
export CARGO_TARGET_DIR ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/k2i/native
# Twice as many as there are processors: much of what is tested waits for other processes.
# A file's tests stay together, because what they share is often dear; tests/conftest.py says in
# which order files begin.
TEST_WORKERS ?= $(shell $(PYTHON) -c 'import os; print((os.cpu_count() or 1) * 2)')

# Programs start here by the hundred: compiling each one anew would cost more than running it.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup native wheel demo test check bench soak fuzz sanitize lock clean

help: ## List the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

setup: $(STAMP) $(NATIVE_STAMP) ## Make .venv with the k2i command and everything the demo and the tests need

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; name one with: make PYTHON=/path/to/python3.11"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(STAMP)

# What is fast only must not stop what is right: without it everything works, in Python.
$(NATIVE_STAMP): $(STAMP) $(NATIVE_SOURCES)
	@if ! command -v cargo >/dev/null; then \
		echo "cargo is not installed: records are decoded in Python, which takes about four times as long (native/README.md)"; \
	elif ! $(MAKE) --no-print-directory native; then \
		echo "the native part could not be built: everything runs in Python; \"make native\" tries again (native/README.md)"; \
	fi
	@touch $(NATIVE_STAMP)

native: $(STAMP) ## Build and install the native part, which needs cargo
	@echo "building the native part, some two minutes the first time"
	@rm -rf $(VENV)/native
	$(BIN)/maturin build --quiet --release --manifest-path native/Cargo.toml --interpreter $(BIN)/python --compatibility linux --out $(VENV)/native
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-index --force-reinstall $(VENV)/native/*.whl

wheel: $(STAMP) ## Build a manylinux wheel of the native part into dist/, which needs cargo and zig (pip install ziglang)
	$(BIN)/maturin build --release --manifest-path native/Cargo.toml --interpreter $(BIN)/python --compatibility manylinux2014 --zig --out dist

demo: $(STAMP) ## Kafka topic to Iceberg table, live; ARGS="--seconds 60 --no-live" ends by itself
	@$(BIN)/k2i dev $(ARGS)

test: setup ## Every test, on real services that it starts and stops itself
	$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

soak: setup ## The long versions: random seeds and kills for SECONDS (default 600)
	$(BIN)/python -m tests.simulation.soak --seconds $(SECONDS)
	$(BIN)/python -m pytest tests/e2e tests/property tests/integration/test_evolution_orders.py -m soak --soak-seconds $(SECONDS) --timeout 0

fuzz: ## The native readers under cargo fuzz, each for SECONDS; needs cargo, cargo-fuzz and g++
	@cargo fuzz --version >/dev/null 2>&1 || { echo "cargo-fuzz is needed: cargo install cargo-fuzz"; exit 2; }
	cd native && for target in json avro protobuf; do \
		RUSTC_BOOTSTRAP=1 cargo fuzz run $$target -- -max_total_time=$(SECONDS) -dict=fuzz/words.dict \
			-max_len=500 -timeout=10 -print_final_stats=1 || exit 1; \
	done

SANITIZED := $(CURDIR)/$(VENV)/sanitized
TRIPLE = $(shell rustc -vV | sed -n "s|host: ||p")

sanitize: setup ## The native part under an address sanitizer, its fuzz for SECONDS; needs cargo and gcc
	RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address cargo build --quiet --release --manifest-path native/Cargo.toml --target $(TRIPLE)
	@mkdir -p $(SANITIZED)
	cp $(CARGO_TARGET_DIR)/$(TRIPLE)/release/libk2i_native.so $(SANITIZED)/k2i_native.so
	PYTHONPATH=$(SANITIZED) LD_PRELOAD=$$(gcc -print-file-name=libasan.so) ASAN_OPTIONS=detect_leaks=0 \
		$(BIN)/python -m pytest tests/property/test_native_json.py tests/property/test_native_binary.py \
		tests/integration/kafka/test_reading.py --capture=sys --soak-seconds $(SECONDS) --timeout 0

bench: setup ## Speed against the targets, half an hour; ARGS="--only throughput --rows 2000000"
	$(BIN)/python -m benchmarks $(ARGS)

check: setup ## Lint, format, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports
	$(BIN)/python -m pytest tests/test_tidy.py

lock: ## Write requirements.lock anew (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --extra dev --extra postgres --extra protobuf --group test --no-strip-extras \
		--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" pyproject.toml -o requirements.lock

clean: ## Remove the environment and caches (kept: .k2i, which holds the demo's tables)
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis .import_linter_cache
