# The verbs of defender-lake; `make` alone prints them. CI calls the same ones: `.ci/run`.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory --no-builtin-rules

CARGO ?= cargo
PYTHON ?= python3
NPM ?= npm

TARGET := $(or $(CARGO_TARGET_DIR),target)
PROGRAM := $(TARGET)/release/defender-lake
EMULATOR := $(TARGET)/release/emulator
VENV := .venv
DELTA_VENV := .venv-delta
SPARK3_VENV := .venv-spark3
BROWSER_TOOLS := .browser
SPARK40_VENV := .venv-spark40
LAKE := $(or $(DEFENDER_LAKE),./lake)

# Tools that are installed if they are missing. Versions of the readers: tests/readers/requirements.txt.
AZURITE_VERSION := 3.37.0
PLAYWRIGHT_VERSION := 1.65.1
AXE_VERSION := 4.14.1
NEXTEST_VERSION := 0.9.143
CARGO_DENY_VERSION := 0.20.2
CARGO_FUZZ_VERSION := 0.13.2
MATURIN_VERSION := 1.16.0
NEXTEST_PROFILE := $(if $(CI),ci,default)

# Options that go on to the program: make ingest INGEST_ARGS='--via json -v'. All datasets are taken unless the options, or
# DEFENDER_DATASET, say which; --from takes one: make ingest INGEST_ARGS='--dataset certificates --from parts'
INGEST_ARGS ?=
# Options of the sample tenant, today's unless a day is given: make ingest EMULATOR_ARGS='--day 1', after '--day 0'
EMULATOR_ARGS ?=
# For machines with an older glibc, after `.venv/bin/pip install ziglang`: make wheel WHEEL_ARGS='--zig --compatibility manylinux_2_28'
WHEEL_ARGS ?=
VERIFY_ARGS ?=
INSTRUCTIONS_ARGS ?=
DIFF_ARGS ?=
TREND_ARGS ?=
REPORT_ARGS ?=
# Your own query: make query SQL='FROM software_inventory LIMIT 5'
SQL ?=
FUZZ_SECONDS ?= 60

.PHONY: help ingest wheel test check generate verify query query-sql diff trend report bench bench-history bench-memory instructions fuzz clean

help: ## Print the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

# ---- the program ----

# No path of this machine is in what is built to be handed on. Every release build has these flags, since one with others would
# build all dependencies again. Separated by a character that no path has.
US := $(shell printf '\037')
SPACE := $(subst ,, )
REMAP = --remap-path-prefix=$(1)=$(2)
CARGO_FOLDER := $(or $(CARGO_HOME),$(HOME)/.cargo)
REMAPS := $(call REMAP,$(abspath $(TARGET)),target)$(US)$(call REMAP,$(CURDIR),.)$(US)$(call REMAP,$(CARGO_FOLDER),cargo)
RELEASE_ENV := CARGO_ENCODED_RUSTFLAGS='$(if $(RUSTFLAGS),$(subst $(SPACE),$(US),$(RUSTFLAGS))$(US))$(REMAPS)'

# Always with the emulator: another set of packages has other features, and would be built from the start.
.PHONY: program
program:
	@$(RELEASE_ENV) $(CARGO) build --locked --release -p pipeline -p fixtures --bins

# If any of these is set, a real tenant is meant, and the program names what is missing. Sample rows never go into its lake.
TENANT_NAMED = $${AZURE_TENANT_ID:-}$${AZURE_CLIENT_ID:-}$${AZURE_CLIENT_SECRET:-}$${AZURE_CLIENT_CERTIFICATE_PATH:-}$${AZURE_FEDERATED_TOKEN_FILE:-}

ingest: program ## Ingest all exports of your tenant if AZURE_* is set, else of a sample tenant; INGEST_ARGS='…'
	@export DEFENDER_DATASET="$${DEFENDER_DATASET:-all}"; \
	if [ -n "$(TENANT_NAMED)" ]; then \
	  exec $(PROGRAM) ingest $(INGEST_ARGS); \
	fi; \
	echo 'No AZURE_* credentials in the environment: taking the sample tenant of an emulator on this machine.' >&2; \
	exec $(EMULATOR) $(EMULATOR_ARGS) -- $(PROGRAM) ingest $(INGEST_ARGS)

# Built with the emulator's features, as the program: what both link is built once. The same wheel again does not touch the file.
wheel: $(VENV)/.maturin-$(MATURIN_VERSION) ## Build the Python wheel into target/wheels
	@rm -rf $(TARGET)/wheels/new
	@PATH="$(CURDIR)/$(VENV)/bin:$$PATH" MAKEFLAGS= MFLAGS= $(RELEASE_ENV) maturin build --release --locked --quiet \
	  --features shared-build --manifest-path pipeline/python/Cargo.toml --out $(TARGET)/wheels/new $(WHEEL_ARGS)
	@cd $(TARGET)/wheels && if ! cmp --silent new/*.whl *.whl; then rm -f *.whl && mv new/*.whl .; fi && rm -rf new && ls *.whl

verify: program ## Read the lake back and compare it with its manifests; VERIFY_ARGS='--keys'
	@$(PROGRAM) verify $(VERIFY_ARGS)

diff: program ## Show what changed since the previous snapshot; DIFF_ARGS='--out changes.parquet'
	@$(PROGRAM) diff $(DIFF_ARGS)

trend: program ## Show how counts developed across snapshots; TREND_ARGS='--by vendor'
	@$(PROGRAM) trend $(TREND_ARGS)

# A lake that is named, else the sample tenant's first eight days, which are made once.
SAMPLE_LAKE := $(TARGET)/sample-lake
REPORT_LAKE := $(or $(DEFENDER_LAKE),$(SAMPLE_LAKE))

report: program $(if $(DEFENDER_LAKE),,$(SAMPLE_LAKE)) ## Write a page about the sample tenant after eight days, or about DEFENDER_LAKE; REPORT_ARGS='--since 30'
	@$(PROGRAM) report --lake "$(REPORT_LAKE)" --out $(TARGET)/report.html $(REPORT_ARGS)

$(SAMPLE_LAKE): | program
	@rm -rf $@.unfinished
	@for day in 0 1 2 3 4 5 6 7; do \
	  env -u DEFENDER_DATASET $(EMULATOR) --day $$day -- $(PROGRAM) ingest -q --dataset all --lake $@.unfinished; \
	done
	@mv $@.unfinished $@

define QUERY
import os, subprocess, sys
import duckdb

program, lake, question = sys.argv[1:]
if not os.path.isdir(os.path.join(lake, "software_inventory")):
    sys.exit(f"no lake at {lake}: run `make ingest` first, or set DEFENDER_LAKE")
ddl = subprocess.run([program, "schema", "--format", "duckdb", "--lake", lake], check=True, capture_output=True, text=True)
duckdb.execute("SET TimeZone = 'UTC'")
duckdb.execute(ddl.stdout)
duckdb.sql(question).show(max_width=200, max_rows=50)
endef
export QUERY

define DEFAULT_SQL
SELECT SoftwareVendor, SoftwareName, count(DISTINCT DeviceId) AS devices, count(DISTINCT SoftwareVersion) AS versions,
       max(NumberOfWeaknesses) AS weaknesses, min(EndOfSupportDate) AS first_end_of_support
FROM software_inventory
WHERE snapshot_date = (SELECT max(snapshot_date) FROM software_inventory)
GROUP BY ALL
ORDER BY weaknesses * devices DESC, devices DESC, SoftwareVendor, SoftwareName
LIMIT 15
endef
export DEFAULT_SQL
export SQL

# With Polars, the engine of `defender-lake query`: takes ten minutes or more to build, once; all other verbs do without.
.PHONY: program-with-query
program-with-query:
	@$(RELEASE_ENV) $(CARGO) build --locked --release -p pipeline -p fixtures --bins --features pipeline/query

query-sql: ## Query the lake with the program itself, on a disk or in a store (ten minutes to build, once); SQL='…'
	@[ -n "$$SQL" ] || { echo "which query? make query-sql SQL='SELECT …'" >&2; exit 2; }
	@$(MAKE) program-with-query
	@$(PROGRAM) query "$$SQL"

query: program $(VENV)/.duckdb ## Query the lake with DuckDB: widely installed products with weaknesses; SQL='…'
	@$(VENV)/bin/python -c "$$QUERY" $(PROGRAM) "$(LAKE)" "$${SQL:-$$DEFAULT_SQL}"

# ---- tests and checks ----

# Everything is tested, also what `make ingest` does not build.
FEATURES := --features pipeline/query

TESTS := --locked --workspace --all-targets $(FEATURES)

# The tests are built while their readers and servers are installed: one waits for the network, the other for the processor.
test: nextest ## Install what the tests need, build and run them all
	@$(MAKE) $(if $(findstring jobserver,$(MAKEFLAGS)),,--jobs=2) test-tools test-programs
	@AZURITE="$(CURDIR)/node_modules/.bin/azurite" DEFENDER_LAKE_PYTHON="$(CURDIR)/$(VENV)/bin/python" \
	  DEFENDER_LAKE_DELTA_PYTHON="$(CURDIR)/$(DELTA_VENV)/bin/python" \
	  DEFENDER_LAKE_SPARK3_PYTHON="$(CURDIR)/$(SPARK3_VENV)/bin/python" DEFENDER_LAKE_BROWSER="$(CURDIR)/$(BROWSER_TOOLS)" \
	  DEFENDER_LAKE_SPARK40_PYTHON="$(CURDIR)/$(SPARK40_VENV)/bin/python" \
	  $(VENV)/bin/python tests/stores/serve.py $(CARGO) nextest run $(TESTS) --profile $(NEXTEST_PROFILE)
	@$(CARGO) test --locked --workspace --doc $(FEATURES)

test-spark-faults: nextest test-tools ## Test ingests by Spark whose workers, executors and drivers are killed
	@AZURITE="$(CURDIR)/node_modules/.bin/azurite" DEFENDER_LAKE_PYTHON="$(CURDIR)/$(VENV)/bin/python" \
	  $(VENV)/bin/python tests/stores/serve.py $(CARGO) nextest run $(TESTS) --ignore-default-filter -E 'test(/^spark::faults::/)'

.PHONY: test-tools test-programs
# Without the job slots of make, which would leave cargo one.
test-programs:
	@MAKEFLAGS= MFLAGS= $(CARGO) nextest run $(TESTS) --no-run

test-tools: $(BROWSER_TOOLS)/.installed-$(PLAYWRIGHT_VERSION)-$(AXE_VERSION)
test-tools: $(VENV)/.readers $(DELTA_VENV)/.readers $(SPARK3_VENV)/.readers $(SPARK40_VENV)/.readers node_modules/.azurite-$(AZURITE_VERSION) wheel
	$(call install_wheel,$(VENV))

# Installs the wheel that `make wheel` built, if it is not the one that is installed.
define install_wheel
@sum=$$(sha256sum $(TARGET)/wheels/*.whl); if [ "$$sum" != "$$(cat $(1)/.wheel 2>/dev/null)" ]; then \
  $(1)/bin/python $(PIP_INSTALL) --no-index --no-deps --force-reinstall $(TARGET)/wheels/*.whl && echo "$$sum" > $(1)/.wheel; fi
endef

# With `--examples` the docs have the features of what clippy has checked; else all dependencies are checked again.
check: cargo-deny ## Check format, lints, docs and licences; warnings are errors
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets $(FEATURES) -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --workspace --no-deps --lib --bins --examples $(FEATURES) --quiet
	@tree=$$($(CARGO) tree --locked -p codec -e normal --prefix none); \
	  ! grep -E '^(reqwest|object_store|tokio|clap) ' <<<"$$tree" || \
	  { echo 'codec must not depend on the network, the lake or the command line' >&2; exit 1; }
	$(CARGO) deny --config .deny.toml check --hide-inclusion-graph licenses bans sources
	@# Without the C++ of libFuzzer, which only the targets are linked with.
	CUSTOM_LIBFUZZER_PATH=/dev/null $(CARGO) clippy --locked --manifest-path pipeline/codec/fuzz/Cargo.toml -- -D warnings

generate: ## Rewrite the files that are generated from the declared datasets
	$(CARGO) run --locked --quiet -p schema --example generate

# Each about 1.3 million rows and 800 MB of JSON: the sample tenant, and one of another shape.
BENCH_DEVICES ?= 11200
OTHER_DEVICES ?= 17500
BENCH := $(TARGET)/bench
BENCH_PARTS := $(BENCH)/$(BENCH_DEVICES)-devices
OTHER_PARTS := $(BENCH)/$(OTHER_DEVICES)-devices-of-another-tenant
# The same records in no order at all, and all of them in one part.
SHUFFLED := $(BENCH_PARTS)-shuffled $(OTHER_PARTS)-shuffled
ONE_PART := $(BENCH_PARTS)-one-part $(BENCH_PARTS)-shuffled-one-part
BENCH_DATA := $(BENCH_PARTS) $(OTHER_PARTS) $(SHUFFLED) $(ONE_PART)
BENCH_CASES := --case 'sample tenant' grouped $(BENCH_PARTS) --case 'sample tenant' shuffled $(BENCH_PARTS)-shuffled \
  --case 'other tenant' grouped $(OTHER_PARTS) --case 'other tenant' shuffled $(OTHER_PARTS)-shuffled \
  --one-part grouped $(BENCH_PARTS)-one-part --one-part shuffled $(BENCH_PARTS)-shuffled-one-part
BENCH_ROUNDS ?= 7
# Other datasets: about 3 million rows of one, a row a device of the other.
VULNERABILITIES_DEVICES ?= 50000
GATHERING_DEVICES ?= 300000
VULNERABILITIES := $(BENCH)/$(VULNERABILITIES_DEVICES)-devices-software_vulnerabilities
GATHERING := $(BENCH)/$(GATHERING_DEVICES)-devices-information_gathering
OTHER_DATASETS := --dataset software_vulnerabilities $(VULNERABILITIES) --dataset information_gathering $(GATHERING)

bench: program $(VENV)/.bench $(BENCH_DATA) $(VULNERABILITIES) $(GATHERING) ## Measure stages, queries, and whole runs beside DuckDB, chDB, Polars and pyarrow
	@$(RELEASE_ENV) $(CARGO) build --locked --release -p codec --example inflate
	@$(RELEASE_ENV) $(CARGO) bench --locked -p codec --bench stages --no-run
	@{ printf '%s, %s cores, %s\n\n```\n' "$$(date -I)" "$$(nproc)" "$$(uname -m)"; \
	  $(RELEASE_ENV) $(CARGO) bench --locked --quiet -p codec --bench stages; echo '```'; } | tee $(BENCH)/stages.md
	$(VENV)/bin/python pipeline/benches/compare.py --program $(PROGRAM) --inflate $(TARGET)/release/examples/inflate \
	  $(BENCH_CASES) $(OTHER_DATASETS) --rounds $(BENCH_ROUNDS) --out $(BENCH)/compare.md
	$(VENV)/bin/python pipeline/benches/datasets.py --program $(PROGRAM) --tenant $(TARGET)/release/tenant --rounds $(BENCH_ROUNDS) \
	  --out $(BENCH)/datasets.md
	$(VENV)/bin/python pipeline/benches/queries.py --program $(PROGRAM) --case grouped $(BENCH_PARTS) \
	  --case shuffled $(BENCH_PARTS)-shuffled --runs $(BENCH_ROUNDS) --out $(BENCH)/queries.md
	@echo 'the tables: $(BENCH)/stages.md, compare.md, datasets.md, queries.md'

# What is made with $(1) appears under its name when it is whole.
define make_once
	@rm -rf $@.unfinished
	$(1) --out $@.unfinished
	@mv $@.unfinished $@
endef

$(BENCH_PARTS): | program
	$(call make_once,$(TARGET)/release/tenant --devices $(BENCH_DEVICES) --parts 16)

$(OTHER_PARTS):
	$(call make_once,$(PYTHON) pipeline/benches/other_tenant.py --devices $(OTHER_DEVICES) --parts 16)

$(VULNERABILITIES) $(GATHERING): | program
	$(call make_once,$(TARGET)/release/tenant --dataset $(lastword $(subst -, ,$@)) --devices $(firstword $(subst -, ,$(notdir $@))) --parts 16)

$(SHUFFLED): %-shuffled: | %
	$(call make_once,$(PYTHON) pipeline/benches/shuffle.py $* --parts 16)

$(ONE_PART): %-one-part: | %
	$(call make_once,$(PYTHON) pipeline/benches/shuffle.py $* --parts 1 --in-order)

# About 5 million rows a day.
HISTORY_DEVICES ?= 42000
HISTORY_LAKE := $(BENCH)/$(HISTORY_DEVICES)-devices-two-days
# About 1.3 million rows a day, and one day more for what another day costs.
TREND_DEVICES ?= 11200
TREND_DAYS ?= 30
TREND_RUNS ?= 3
TREND_LAKE := $(BENCH)/$(TREND_DEVICES)-devices-$(TREND_DAYS)-days

bench-history: program $(VENV)/.bench $(HISTORY_LAKE) $(TREND_LAKE) ## Compare diff and trend with DuckDB on days of a large tenant
	$(VENV)/bin/python pipeline/benches/history.py --program $(PROGRAM) --lake $(HISTORY_LAKE) --out $(BENCH)/history.md
	$(VENV)/bin/python pipeline/benches/history.py --program $(PROGRAM) --lake $(TREND_LAKE) --compare trend --runs $(TREND_RUNS) \
	  --out $(BENCH)/trend.md

$(HISTORY_LAKE): LAKE_DEVICES := $(HISTORY_DEVICES)
$(HISTORY_LAKE): LAKE_DAYS := 0 1
$(TREND_LAKE): LAKE_DEVICES := $(TREND_DEVICES)
$(TREND_LAKE): LAKE_DAYS := $(shell seq 0 $(TREND_DAYS))

$(HISTORY_LAKE) $(TREND_LAKE):
	@rm -rf $@.unfinished $@.parts
	@for day in $(LAKE_DAYS); do \
	  $(TARGET)/release/tenant --devices $(LAKE_DEVICES) --parts 16 --day $$day --out $@.parts/$$day; \
	  $(PROGRAM) ingest -q --from $@.parts/$$day --lake $@.unfinished --work-dir $@.parts/work; \
	  rm -rf $@.parts/$$day; \
	done
	@rm -rf $@.parts
	@mv $@.unfinished $@

bench-memory: program ## Measure the memory of runs and compare it with --memory
	@$(PYTHON) pipeline/benches/memory.py --program $(PROGRAM) --tenant $(TARGET)/release/tenant

instructions: program ## Count the instructions per row and compare them with the budget; INSTRUCTIONS_ARGS=--renew
	@command -v valgrind >/dev/null || { echo 'needs valgrind (Debian: valgrind)' >&2; exit 1; }
	@$(PYTHON) pipeline/benches/instructions.py --program $(PROGRAM) --tenant $(TARGET)/release/tenant $(INSTRUCTIONS_ARGS)

# FUZZ_BUILD=--dev builds in a third of the time and runs slower. CI does that: it is there for the corpus above all.
FUZZ_BUILD ?=

fuzz: cargo-fuzz ## Fuzz each target for FUZZ_SECONDS (60), its corpus first
	@cd pipeline/codec && for target in $$($(CARGO) fuzz list); do \
	  echo "fuzz: $$target, $(FUZZ_SECONDS) seconds"; \
	  dictionary=fuzz/$$target.dict; \
	  $(CARGO) fuzz run -s none $(FUZZ_BUILD) $$target -- -max_total_time=$(FUZZ_SECONDS) -max_len=8192 \
	    $$([ -f $$dictionary ] && echo -dict=$$dictionary); \
	done

clean: ## Remove what was built or installed; never the lake
	rm -rf $(VENV) $(DELTA_VENV) $(SPARK3_VENV) $(SPARK40_VENV) $(BROWSER_TOOLS) node_modules
	$(CARGO) clean

# ---- what they need, installed once; a stamp file says that it is done ----

# Python compiles what a test imports; compiling all of it takes a third of the time.
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check --no-compile

# `make query` needs only DuckDB: seconds, while all readers with Spark take a minute and 1 GB.
$(VENV)/.duckdb: tests/readers/requirements.txt | $(VENV)/bin/python
	@echo 'installing DuckDB for Python'
	@grep -E '^(duckdb|pytz)==' $< | $(VENV)/bin/python $(PIP_INSTALL) -r /dev/stdin
	@touch $@

$(VENV)/.readers: tests/readers/requirements.txt | $(VENV)/bin/python
	@command -v java >/dev/null || { echo 'the tests need Java 17 for Spark: install it and run again' >&2; exit 1; }
	@echo 'installing DuckDB, Spark, pyarrow and Polars for Python (about a minute, 1 GB)'
	@$(VENV)/bin/python $(PIP_INSTALL) -r $<
	@touch $(VENV)/.duckdb $@

# In an environment of its own: DuckDB's extension for Delta is for another version of DuckDB.
$(DELTA_VENV)/.readers: tests/readers/delta-requirements.txt | $(DELTA_VENV)/bin/python
	@echo 'installing readers of Delta tables for Python'
	@$(DELTA_VENV)/bin/python $(PIP_INSTALL) -r $<
	@touch $@

$(SPARK3_VENV)/.readers: tests/readers/spark3-requirements.txt | $(SPARK3_VENV)/bin/python
	@echo 'installing Spark 3 for Python (about half a minute, 400 MB)'
	@$(SPARK3_VENV)/bin/python $(PIP_INSTALL) -r $<
	@touch $@

# Not while another pip works in the same environment.
$(VENV)/.maturin-$(MATURIN_VERSION): | $(VENV)/bin/python $(if $(filter test-tools,$(MAKECMDGOALS)),$(VENV)/.readers)
	@echo 'installing maturin'
	@rm -f $(VENV)/.maturin-*
	@$(VENV)/bin/python $(PIP_INSTALL) maturin==$(MATURIN_VERSION)
	@touch $@

# What is in the other environment, the wheel too, is found there: only Spark is another.
$(SPARK40_VENV)/.readers: tests/readers/spark40-requirements.txt | $(SPARK40_VENV)/bin/python $(VENV)/bin/python
	@echo 'installing Spark 4.0 for Python (about a minute, 480 MB)'
	@$(SPARK40_VENV)/bin/python $(PIP_INSTALL) --no-deps -r $<
	@packages="import site; print(site.getsitepackages()[0])"; $(VENV)/bin/python -c "$$packages" \
	  > "$$($(SPARK40_VENV)/bin/python -c "$$packages")/others.pth"
	@touch $@

$(VENV)/.bench: pipeline/benches/requirements.txt | $(VENV)/bin/python
	@echo 'installing the tools to compare with'
	@$(VENV)/bin/python $(PIP_INSTALL) -r $<
	@touch $@

$(VENV)/bin/python $(DELTA_VENV)/bin/python $(SPARK3_VENV)/bin/python $(SPARK40_VENV)/bin/python:
	@$(PYTHON) -m venv $(@:/bin/python=) || \
	  { rm -rf $(@:/bin/python=); echo 'needs Python 3.11 or newer with its venv module (Debian: python3-venv)' >&2; exit 1; }

# Azure's storage emulator, for tests against a real blob server; AZURITE names it to the tests.
node_modules/.azurite-$(AZURITE_VERSION):
	@command -v $(NPM) >/dev/null || { echo 'the tests need Node.js and npm for azurite: install them and run again' >&2; exit 1; }
	@echo 'installing azurite'
	@$(NPM) install --prefix . --no-save --no-package-lock --no-audit --no-fund --loglevel=error azurite@$(AZURITE_VERSION)
	@touch $@

# A real browser for the report: Debian's Chromium, driven by Playwright without a browser of its own, and axe-core's rules.
$(BROWSER_TOOLS)/.installed-$(PLAYWRIGHT_VERSION)-$(AXE_VERSION):
	@command -v chromium >/dev/null || { [ "$$(id -u)" -eq 0 ] && command -v apt-get >/dev/null && echo 'installing chromium' && \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-liberation >/dev/null; } || \
	  { echo 'the tests need Chromium for the report: install it (Debian: apt-get install chromium) and run again' >&2; exit 1; }
	@command -v $(NPM) >/dev/null || { echo 'the tests need Node.js and npm for Playwright: install them and run again' >&2; exit 1; }
	@mkdir -p $(BROWSER_TOOLS)
	@echo 'installing Playwright and axe-core'
	@$(NPM) install --prefix $(BROWSER_TOOLS) --no-save --no-package-lock --no-audit --no-fund --loglevel=error \
	  playwright-core@$(PLAYWRIGHT_VERSION) axe-core@$(AXE_VERSION)
	@touch $@

.PHONY: nextest cargo-deny cargo-fuzz
nextest:
	@$(CARGO) nextest --version >/dev/null 2>&1 || $(CARGO) install cargo-nextest --locked --version $(NEXTEST_VERSION)

# Built as debug builds without debug information: in under a minute, and fast enough. Features left out are for advisories.
INSTALL_DEBUG := CARGO_PROFILE_DEV_DEBUG=0 $(CARGO) install --debug --locked

cargo-deny:
	@$(CARGO) deny --version >/dev/null 2>&1 || \
	  $(INSTALL_DEBUG) cargo-deny --version $(CARGO_DENY_VERSION) --no-default-features

cargo-fuzz:
	@$(CARGO) fuzz --version >/dev/null 2>&1 || $(INSTALL_DEBUG) cargo-fuzz --version $(CARGO_FUZZ_VERSION)
