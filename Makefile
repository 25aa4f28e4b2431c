.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
DATA ?=
MODEL ?= demo
ROOT ?= file://$(CURDIR)/artifacts
demo vectors serve explore: export ARTIFACT_ROOT := $(ROOT)
export HF_HUB_OFFLINE ?= 1
export RAY_USAGE_STATS_ENABLED := 0
serve: export RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH := clinical_modernbert.serving.proxy.middlewares
export TOKENIZERS_PARALLELISM := true

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

# torch first: DeepSpeed's setup imports it. Without built ops (DS_BUILD_OPS=0) DeepSpeed needs no compiler.
.venv/.installed: pyproject.toml tools/pins.py
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "Python 3.11 to 3.13 is required, and $(PYTHON) is another version: use make PYTHON=python3.12 ..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing pinned dependencies into .venv (several minutes the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $$($(PYTHON) tools/pins.py torch numpy setuptools) wheel
	@DS_BUILD_OPS=0 $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --editable '.[dev]'
	@touch $@

install: .venv/.installed ## create .venv with every pinned dependency

demo: install ## run the main job, raw files to endpoint; DATA=<folder> adds real files
	@$(BIN)/python jobs/demo.py $(if $(DATA),--data $(DATA))

vectors: install ## train vectors for search from the packaged MiniLM; DATA=<folder with vocab/> adds the words of patients
	@$(BIN)/python jobs/vectors.py $(if $(DATA),--data $(DATA))

serve: install ## serve MODEL=<name> on port 8000, with OpenAI's embeddings API
	@$(BIN)/serve run apps.encoder:build recipe=serve/demo model=$(MODEL)

explore: install ## open the explorer on port 8501
	@$(BIN)/streamlit run dashboards/explorer.py

clients: build/clients/.installed ## make the venv of the clients that docs/clients.md shows, for its test

build/clients/.installed: pyproject.toml tools/pins.py
	@test -x build/clients/bin/python || $(PYTHON) -m venv build/clients
	@build/clients/bin/pip install --quiet --disable-pip-version-check \
		$$($(PYTHON) tools/pins.py langchain-openai llama-index-embeddings-openai-like haystack-ai litellm)
	@touch $@

check: install ## check lint, format, types and import contracts
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

test: install .tools/helm .tools/axe.min.js ## run all tests; tests that need Chromium or real data skip without them
	@$(BIN)/pytest

.tools/helm: tools/fetch_helm.py | install
	@$(BIN)/python tools/fetch_helm.py

.tools/axe.min.js: tools/fetch_axe.py | install
	@$(BIN)/python tools/fetch_axe.py

charts: install .tools/helm ## lint and render the chart, and check it against KubeRay's rules
	@$(BIN)/python tools/chart_readme.py --check && $(BIN)/pytest tests/charts

image-test: install ## build the cpu image with buildah and run a job in it (minutes; needs root, buildah, debootstrap)
	@$(BIN)/pytest tests/image -m image

cluster-test: install .tools/helm ## test the chart and its jobs on the cluster that KUBECONFIG names (minutes; CONTRIBUTING.md)
	@$(BIN)/pytest tests/cluster -m cluster --exitfirst --verbose --durations=0 --durations-min=1

release: install .tools/helm ## print how images and chart are published and signed; REGISTRY=<host/path>, PUBLISH=1 does it
	@HELM=$(CURDIR)/.tools/helm $(BIN)/python tools/release.py --registry $(REGISTRY) $(if $(PUBLISH),--publish)

bench: install ## run one measurement against a peer: ROW=<name>
	@$(BIN)/python -m benchmarks.run $(ROW)

drill: install ## inject one kind of fault and count the losses: ROW=<name>
	@$(BIN)/python -m benchmarks.drill $(ROW)

sbom: install ## write build/sbom.cdx.json (CycloneDX), and check the licences in it
	@test -x build/sbom/bin/cyclonedx-py || { $(PYTHON) -m venv build/sbom && \
		build/sbom/bin/pip install --quiet --disable-pip-version-check $$($(PYTHON) tools/pins.py cyclonedx-bom); }
	@build/sbom/bin/cyclonedx-py environment --output-reproducible --output-file build/sbom.cdx.json $(BIN)/..
	@$(BIN)/python tools/licences.py build/sbom.cdx.json

audit: install ## compare the packages in use with the advisories (OSV's form) below DB=<folder>
	@$(BIN)/python tools/audit.py $(DB)

wheel: install ## build the wheel of HEAD below build/wheel; the same commit gives the same bytes
	@$(BIN)/python tools/wheel.py

clean: ## remove everything that is not in git
	@rm -rf .venv .tools build artifacts .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -prune -exec rm -rf {} + ; rm -rf platform/*.egg-info

.PHONY: help install demo vectors serve explore clients check test charts image-test cluster-test release bench drill sbom audit wheel clean
