# Two commands do everything: `make serve` and `make test`. `make help` lists the rest.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RIVALS := .venv-bench
UV_VERSION := 0.13.9
EXTRACTOR ?= efficientnet-lite0
TEST_PROCESSES ?= 2
# Packages are compiled when they are installed, as in the image: where PYTHONDONTWRITEBYTECODE is set, no start would
# keep what it compiles.
export UV_COMPILE_BYTECODE := 1

.DEFAULT_GOAL := help
.PHONY: help serve test test-long test-access test-fuzz audit test-networks test-bento test-browser bench-main-job bench-heads bench-checks bench-transfer \
        bench-imagenet bench-access bench-many-heads bench-scale bench-batching bench-gpu test-gpu bench-serving wrk bench-decoding bench-precision \
        image image-gpu image-test image-gpu-test test-compose test-compose-stack check lint types contracts format lock export bento clean

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(BIN)/uv:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

# Serving needs serve.txt; the export of the extractor, done once, needs torch as well.
$(VENV)/.serve: requirements/export.txt pyproject.toml | $(BIN)/uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python -r requirements/export.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -e .
	@touch $@

$(VENV)/.dev: requirements/dev.txt pyproject.toml | $(BIN)/uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python -r requirements/dev.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -e .
	@touch $@ $(VENV)/.serve

# The servers that ours is measured beside have an environment of their own.
$(RIVALS)/.done: requirements/bench.txt | $(BIN)/uv
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(RIVALS)
	$(BIN)/uv pip install --quiet --python $(RIVALS)/bin/python -r requirements/bench.txt
	@touch $@

postgresql:
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null \
	    || { apt-get update -qq && apt-get install -y -qq --no-install-recommends postgresql >/dev/null; } \
	    || { echo "PostgreSQL is missing and could not be installed: install it (Debian: apt-get install postgresql)"; exit 1; }

wrk:
	@command -v wrk >/dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends wrk >/dev/null; } \
	    || { echo "the load generator wrk is missing and could not be installed: install it (Debian: apt-get install wrk)"; exit 1; }

export: $(VENV)/.serve ## export the default extractor (a second run does nothing)
	$(BIN)/headstart export $(EXTRACTOR)

serve: export ## set up, export the default extractor once, serve on port 3000
	exec $(BIN)/headstart serve

test: $(VENV)/.dev ## set up, run all tests but the long ones
	$(BIN)/python -m pytest -m "not long and not timing" --numprocesses $(TEST_PROCESSES) --dist loadfile
	$(BIN)/python -m pytest -m "timing and not long"

test-long: $(VENV)/.dev $(RIVALS)/.done ## train networks, embed whole sets, kill workers
	$(BIN)/python -m pytest -m long --numprocesses $(TEST_PROCESSES) --dist loadfile

test-access: $(VENV)/.dev ## keys, scopes, tenants, quotas, rates and the audit log, also over two processes
	$(BIN)/python -m pytest tests/access

test-fuzz: $(VENV)/.dev ## fuzz images, archives, forms, JSON, headers, head files and archives, URLs (FUZZ_EXECUTIONS=60000, FUZZ_SEED, FUZZ_FORMATS)
	$(BIN)/uv pip install --quiet --python $(BIN)/python -r requirements/fuzz.txt
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz

audit: $(VENV)/.dev ## known vulnerabilities of the pins: pip-audit where it is answered, a committed list elsewhere
	-$(BIN)/uv pip install --quiet --python $(BIN)/python -r requirements/audit.txt
	$(BIN)/python deploy/audit.py

.PHONY: test-store postgresql
STORE_TESTS ?= tests/service/store tests/service/api tests/service/jobs tests/service/inputs tests/service/learning \
               tests/service/moving tests/access
test-store: $(VENV)/.dev postgresql ## the store on SQLite and PostgreSQL, migrations on both, the service on PostgreSQL
	TEST_DATABASE=postgresql $(BIN)/python -m pytest -m "not long and not timing" --numprocesses $(TEST_PROCESSES) \
	    --dist loadfile $(STORE_TESTS)
	$(BIN)/python -m pytest -s tests/store/test_consistency.py

.PHONY: test-replicas nginx k8s-test kubectl
nginx:
	@command -v nginx >/dev/null || test -x /usr/sbin/nginx \
	    || { apt-get update -qq && apt-get install -y -qq --no-install-recommends nginx-light >/dev/null; } \
	    || { echo "nginx is missing and could not be installed: install it (Debian: apt-get install nginx-light)"; exit 1; }

test-replicas: $(VENV)/.dev export postgresql nginx ## three servers in network namespaces behind nginx: restarted, killed, cut off (REPLICAS_RESTARTS=1)
	$(BIN)/python -m pytest -s tests/replicas

kubectl:
	@command -v kubectl >/dev/null \
	    || { apt-get update -qq && apt-get install -y -qq --no-install-recommends kubernetes-client >/dev/null; } \
	    || { echo "kubectl is missing and could not be installed: install it (Debian: apt-get install kubernetes-client)"; exit 1; }

k8s-test: $(VENV)/.dev kubectl ## render the Kubernetes overlays, validate them strictly, check them against the service
	$(BIN)/python -m pytest tests/kubernetes

.PHONY: test-crash test-soak
test-crash: $(VENV)/.dev postgresql ## kill -9 at some 260 moments (CRASH_KILLS=60), full disks, lost databases
	$(BIN)/python -m pytest -s tests/store/test_crash.py tests/store/test_restores.py tests/store/test_outages.py

test-soak: $(VENV)/.dev ## switch versions under load: p99 before, during, after; memory and descriptors (SOAK_S=22 each)
	$(BIN)/python -m pytest -s tests/store/test_soak.py

bench-access: $(VENV)/.dev export ## what a key, a rate limit and a tenant cost a request
	$(BIN)/python -m benchmarks.access

test-networks: $(VENV)/.dev ## export, load and run every network of the catalogue, with random weights
	HEADSTART_TEST_ALL_NETWORKS=1 $(BIN)/python -m pytest tests/training/test_export.py tests/training/test_backbones.py tests/training/finetune

test-bento: $(VENV)/.dev export ## build the bento, serve it without torch, teach it a head
	$(BIN)/python -m pytest tests/bento

test-browser: $(VENV)/.dev export ## the page in headless Chromium (Debian: apt-get install chromium)
	$(BIN)/python -m pytest tests/browser

.PHONY: test-ray
RAY_IMAGES ?= 320
test-ray: $(VENV)/.dev export ## embed on a local Ray, a worker and the command killed half-way (RAY_IMAGES=320)
	$(BIN)/uv pip install --quiet --python $(BIN)/python -r requirements/ray.txt
	RAY_IMAGES=$(RAY_IMAGES) $(BIN)/python -m pytest tests/ray --durations=0

test-gpu: $(VENV)/.dev export ## what only a machine with an NVIDIA GPU can test (docs/guide/gpu.md)
	$(BIN)/uv pip install --quiet --python $(BIN)/python -r requirements/gpu.txt
	$(BIN)/python -m pytest -m gpu -rs

bench-main-job: $(VENV)/.dev export ## accuracy and cost of a head through the real service
	$(BIN)/python -m benchmarks.main_job

bench-heads: $(VENV)/.dev export ## heads against scikit-learn, on real embeddings
	$(BIN)/python -m benchmarks.heads

bench-checks: $(VENV)/.dev export ## wrong labels, copies and outliers planted among real images
	$(BIN)/python -m benchmarks.checks

bench-transfer: $(VENV)/.dev export ## every strategy of transfer on real images (hours on two cores; goes on after a stop)
	$(BIN)/python -m benchmarks.transfer

bench-serving: $(VENV)/.dev $(RIVALS)/.done export wrk ## speed against the raw limit and other servers, int8 too (8 minutes)
	$(BIN)/python -m benchmarks.serving --int8

.PHONY: bench-pressure
bench-pressure: $(VENV)/.dev export wrk ## more requests than can be answered, and a batch of 5,000 with single ones beside it
	$(BIN)/python -m benchmarks.pressure

bench-many-heads: $(VENV)/.dev export ## a thousand heads on one image, against one head
	$(BIN)/python -m benchmarks.many_heads

bench-scale: $(VENV)/.dev export ## 10,000 heads and 1,000,000 embeddings against a hundredth of that (9 GB for a moment, 4 minutes)
	$(BIN)/python -m benchmarks.scale

bench-batching: $(VENV)/.dev export ## when a batch starts (simulated device), what a process for the device costs (this CPU)
	$(BIN)/python -m benchmarks.batching

bench-gpu: $(VENV)/.dev export ## images per second by device and batch size; refuses without an NVIDIA GPU
	$(BIN)/uv pip install --quiet --python $(BIN)/python -r requirements/gpu.txt
	$(BIN)/python -m benchmarks.gpu

bench-imagenet: $(VENV)/.dev export ## top-1 of the exported network's own classifier
	$(BIN)/python -m benchmarks.imagenet_sample

bench-decoding: $(VENV)/.dev export ## decoding against plain Pillow, photographs and 12 megapixels
	$(BIN)/python -m benchmarks.decoding

bench-precision: $(VENV)/.dev export ## int8 against fp32: accuracy of heads and speed (5 minutes)
	$(BIN)/python -m benchmarks.precision

check: lint types contracts ## ruff, mypy --strict, import-linter

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

contracts: $(VENV)/.dev
	$(BIN)/lint-imports --no-cache

format: $(VENV)/.dev ## let ruff rewrite the code
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-emit-index-url --custom-compile-command 'make lock' pyproject.toml
OF_IMAGE = --extra s3 --extra postgres --extra otel -c requirements/s3.txt -c requirements/postgres.txt -c requirements/otel.txt --generate-hashes --no-annotate
lock: | $(BIN)/uv ## pin the dependencies again
	$(COMPILE) -o requirements/serve.txt
	$(COMPILE) --extra gpu -c requirements/serve.txt -o requirements/gpu.txt
	$(COMPILE) --extra otel -c requirements/serve.txt -o requirements/otel.txt
	$(COMPILE) --extra ray -c requirements/serve.txt -o requirements/ray.txt
	$(COMPILE) --extra s3 -c requirements/serve.txt -o requirements/s3.txt
	$(COMPILE) --extra postgres -c requirements/serve.txt -o requirements/postgres.txt
	$(COMPILE) --extra export -c requirements/serve.txt -o requirements/export.txt
	$(COMPILE) $(OF_IMAGE) --override deploy/image/cpu.txt -o requirements/image-cpu.txt
	$(COMPILE) $(OF_IMAGE) --extra gpu -c requirements/gpu.txt -o requirements/image-gpu.txt
	echo uv==$(UV_VERSION) | $(subst pyproject.toml,-,$(COMPILE)) --generate-hashes -o deploy/image/uv.txt
	$(COMPILE) --extra bench -c requirements/serve.txt -o requirements/bench.txt
	$(COMPILE) --extra export --extra otel --extra s3 --extra postgres --extra dev -c requirements/export.txt -c requirements/otel.txt -c requirements/s3.txt -c requirements/postgres.txt -o requirements/dev.txt
	$(COMPILE) --extra fuzz -c requirements/dev.txt -o requirements/fuzz.txt
	$(COMPILE) --extra audit -c requirements/dev.txt -o requirements/audit.txt

bento: export ## pack the service with its extractor: import it into the model store, bentoml build
	$(BIN)/python deploy/bento.py .headstart/extractors/$(EXTRACTOR)

IMAGE_BASE ?=
ENGINE ?= podman
IMAGE = $(BIN)/python deploy/image/build.py .headstart/extractors/$(EXTRACTOR) --engine $(ENGINE) $(if $(IMAGE_BASE),--base $(IMAGE_BASE))
image: export ## build the container image localhost/headstart:cpu, say what takes its space (ENGINE=docker instead of podman)
	$(IMAGE)

image-gpu: export ## build localhost/headstart:gpu, with CUDA and cuDNN
	$(IMAGE) --gpu

image-test: $(VENV)/.dev export ## build the image and do the main job in it (Debian: apt-get install podman runc mmdebstrap)
	IMAGE_BASE=$(IMAGE_BASE) $(BIN)/python -m pytest tests/image -s

image-gpu-test: $(VENV)/.dev export ## build the GPU image (some minutes, 8 GB for a while) and start it without a GPU
	IMAGE_BASE=$(IMAGE_BASE) $(BIN)/python -m pytest tests/image_gpu -s

test-compose: $(VENV)/.dev export ## compose files, dashboard and alerts (Debian: apt-get install prometheus docker-compose)
	$(BIN)/python -m pytest tests/compose

# The suite gives PostgreSQL, S3 and Prometheus containers of their own, made of Debian's packages.
test-compose-stack: $(VENV)/.dev export ## the compose stack at work (Debian: apt-get install podman runc mmdebstrap docker-compose netavark aardvark-dns iptables)
	IMAGE_BASE=$(IMAGE_BASE) $(BIN)/python -m pytest tests/stack -s --durations=3

clean: ## remove what the tools wrote (not .headstart, where your heads are)
	rm -rf $(VENV) $(RIVALS) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
