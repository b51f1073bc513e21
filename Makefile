# Every target makes and reuses .venv and does all of its own set-up.
PYTHON ?= python3
BIN := .venv/bin
DEMO := demo
DEMO_IMAGES := 1000
DEMO_EPOCHS := 3

.PHONY: demo test tests test-fast test-long check docs results bench gpu clean

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch torchvision
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test,docs]"
	touch $@

# The main job, whole, on synthetic lesions: draw, audit, train, judge, predict.
demo: .venv/ready
	rm -rf $(DEMO)
	$(BIN)/nevus phantom --n $(DEMO_IMAGES) --image-size 128 --out $(DEMO)/phantoms
	$(BIN)/nevus audit $(DEMO)/phantoms --out $(DEMO)/audit
	$(BIN)/nevus train $(DEMO)/phantoms --epochs $(DEMO_EPOCHS) --out $(DEMO)/run
	$(BIN)/nevus evaluate $(DEMO)/phantoms --split test --bundle $(DEMO)/run/bundle --out $(DEMO)/evaluation
	$(BIN)/nevus predict $(DEMO)/phantoms/test/malignant --bundle $(DEMO)/run/bundle --out $(DEMO)/predictions.txt
	head -n 6 $(DEMO)/predictions.txt
	@echo "Look at $(DEMO)/phantoms/contact-sheet.jpg, $(DEMO)/audit/audit.html, $(DEMO)/run/curves.png and $(DEMO)/evaluation/evaluation.html"

# The checks use one core only, and run beside the tests.
test: .venv/ready
	$(MAKE) --jobs=2 check tests

tests: .venv/ready
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not long"

check: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/english.py

# The quick tests of every room, in under a minute.
test-fast: .venv/ready
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 -m "not long" tests/metrics tests/models/test_label_groups.py tests/models/test_spec.py \
		tests/models/test_bit.py tests/bundle/test_bundle.py tests/runtime/test_tta.py tests/runtime/test_engines.py \
		tests/training/test_config.py tests/data/test_manifest.py tests/data/test_splits.py tests/cli/test_main.py

test-long: .venv/ready
	$(BIN)/pytest -m long

# Render docs/results.md and the numbers of README.md from results/*.csv.
results: .venv/ready
	$(BIN)/python -m reproduce.render

docs: .venv/ready
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	$(BIN)/python scripts/links.py site

# Checks and measurements on an NVIDIA GPU, in minutes. The machine's own PyTorch is used.
gpu:
	$(PYTHON) -m venv --system-site-packages .venv-gpu
	.venv-gpu/bin/pip install --quiet --disable-pip-version-check -e ".[train]"
	.venv-gpu/bin/python -m benchmarks.gpu --keep

bench: .venv/ready
	$(BIN)/python -m benchmarks.startup
	$(BIN)/python -m benchmarks.speed
	$(BIN)/python -m benchmarks.engines
	$(BIN)/python -m benchmarks.members
	$(BIN)/python -m benchmarks.serving
	$(BIN)/python -m benchmarks.memory

clean:
	rm -rf .venv demo site
