# Leads: the things one does with this repository. `make` alone lists them.

.DEFAULT_GOAL := help
.PHONY: help run test test-long check format compose-test cluster-test chaos soak bench contracts lock clean

PYTHON_FILES := shared services contracts tests bench
IN_VENV := .venv/bin/python
PYTEST := $(IN_VENV) -m pytest

help: ## List what there is to do
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo '  T=tests/unit make test runs only these; PYTHON=/path/to/python3 chooses the Python of a new .venv.'

run: .venv/.runtime ## Start api, storage and notifier in this terminal; Ctrl-C stops them
	@exec ./leads up

test: test-tools ## Run the tests, RabbitMQ ones on a private node (T=... runs some, long ones too)
	@$(PYTEST) $(if $(T),-m '' $(T))

test-long: test-tools ## Run the tests that take their time: some forty minutes more
	@$(PYTEST) -m long

.PHONY: test-tools
test-tools:
	@scripts/test-tools

check: .venv/.dev ## Check lint, format, strict types and who imports whom
	.venv/bin/ruff check $(PYTHON_FILES)
	.venv/bin/ruff format --check $(PYTHON_FILES)
	$(IN_VENV) -m mypy shared services contracts tests/harness
	$(IN_VENV) .venv/bin/lint-imports

format: .venv/.dev ## Rewrite the code in house style
	.venv/bin/ruff check --fix $(PYTHON_FILES)
	.venv/bin/ruff format $(PYTHON_FILES)

compose-test: .venv/.dev ## Prove docker-compose.yml on this machine's Docker engine, from nothing and back to nothing
	@$(PYTEST) $(or $(T),tests/compose)

cluster-test: .venv/.dev ## Kill nodes of a RabbitMQ cluster of three under load (LEADS_CHAOS=long: each five times)
	@scripts/rabbitmq
	@$(PYTEST) -m '' $(or $(T),tests/chaos/test_broker_cluster.py)

chaos: test-tools ## Kill, cut and starve everything while leads come in: the long form, hours
	@LEADS_CHAOS=long $(PYTEST) -m '' --timeout=0 $(or $(T),tests/chaos)

soak: .venv/.dev ## Take leads in at 70 % of the highest rate for an hour, and see what grows (ARGS='--minutes 15')
	@$(IN_VENV) -m bench.soak $(ARGS)

bench: .venv/.bench ## Measure Leads beside what it competes with (ARGS='--short', ARGS='intake lists --write')
	@scripts/bench-tools
	@$(IN_VENV) -m bench $(ARGS)

contracts: .venv/.dev ## Write docs/openapi.json and docs/asyncapi.yaml anew from the code
	@$(IN_VENV) -m contracts

lock: ## Pin requirements/*.in, with hashes, into requirements/*.txt (ARGS=--upgrade takes newer versions)
	@scripts/lock $(ARGS)

clean: ## Remove .venv and every cache; never data/
	@rm -rf .venv tests/contract/*/node_modules .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@find $(PYTHON_FILES) -name __pycache__ -type d -prune -exec rm -rf {} +

# Each stamp says that .venv holds that file's packages. A .venv whose Python is gone is made anew.
.venv/.runtime .venv/.dev .venv/.bench: .venv/.%: requirements/%.txt .venv/bin/python
	@scripts/bootstrap $*

.venv/.bench: .venv/.dev

.venv/bin/python: ;
