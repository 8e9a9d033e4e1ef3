# The commands a person runs. `make` alone lists them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# A file's tests stay together: they share what is slow to start.
AT_ONCE := --numprocesses auto --maxprocesses 4 --dist loadfile --session-timeout 3600

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' Makefile
	@echo "  AGAINST=…      the other tree, for make bench"
	@echo "  PYTHON=…       the interpreter to make .venv with (now: $(PYTHON))"

.PHONY: run
run: $(VENV)/.run ## install into .venv and start the gateway with a demo connector
	@$(BIN)/service-gateway serve --demo

.PHONY: test
test: $(VENV)/.test chromium ## format check, lint, types and all tests
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/pytest $(AT_ONCE)

.PHONY: coverage
coverage: $(VENV)/.test chromium ## all tests, then the lines and branches they did not reach
	$(BIN)/pytest --cov $(AT_ONCE)

.PHONY: soak
soak: $(VENV)/.test ## try the admin API with many more made-up requests than `make test` does
	SCHEMATHESIS_EXAMPLES=$${SCHEMATHESIS_EXAMPLES:-100} $(BIN)/pytest --timeout 1800 tests/e2e/test_openapi_fuzz.py

.PHONY: bench
bench: $(VENV)/.test ## measure the gateway beside other proxies, or against another tree of it
	$(BIN)/python tests/bench/$(if $(AGAINST),ab.py $(AGAINST),run.py)

.PHONY: format
format: $(VENV)/.test ## format the code and mend what lint can mend
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

.PHONY: clean
clean: ## remove .venv, builds and caches
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage .coverage.*
	find gateway filters admin sql templates tests -name __pycache__ -prune -exec rm -rf {} +

# Stamps: an install is repeated only when what it installs has changed.

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "Service Gateway needs Python 3.11 or newer, and $(PYTHON) is not that: name another one, as in 'make PYTHON=python3.12 $(MAKECMDGOALS)'." >&2; \
		exit 1; }
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

# $(call install,extra): quiet while all goes well; when it fails, what pip said.
define install
	@echo "installing service-gateway[$(1)] into $(VENV) (once; it may take a minute)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$(1)]' > $(VENV)/install.log 2>&1 \
		|| { cat $(VENV)/install.log >&2; exit 1; }
endef

# The browser that the tests of pages drive: any chromium of the PATH; as root, Debian's is installed.
.PHONY: chromium
chromium:
	@command -v chromium > /dev/null && exit 0; \
	if [ "$$(id -u)" != 0 ] || ! command -v apt-get > /dev/null; then \
		echo "The tests need a browser: run 'apt-get update && apt-get install chromium fonts-dejavu-core' as root, or put another chromium into the PATH." >&2; \
		exit 1; \
	fi; \
	echo "installing Debian's chromium (once; it may take a minute)"; \
	export DEBIAN_FRONTEND=noninteractive; \
	install="apt-get install --yes --no-install-recommends chromium fonts-dejavu-core"; \
	said=$$( { $$install || { apt-get update && $$install; }; } 2>&1 ) || { echo "$$said" >&2; exit 1; }

$(VENV)/.run: $(VENV)/.made setup.cfg pyproject.toml
	$(call install,embedded)
	@touch $@

# The test extra holds the embedded one, so the stamp of the smaller install is true as well.
$(VENV)/.test: $(VENV)/.made setup.cfg pyproject.toml
	$(call install,test)
	@touch $(VENV)/.run $@
