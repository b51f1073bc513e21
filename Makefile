# Every target makes and reuses .venv and does all of its own set-up.
PYTHON ?= python3
BIN := .venv/bin
DEMO := demo
DEMO_IMAGES := 1000
DEMO_EPOCHS := 8

.PHONY: demo test test-long check docs bench results clean

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch torchvision
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test,docs]"
	touch $@

# The main job, whole, on synthetic lesions: draw, audit, train, judge, predict.
demo: .venv/ready
	rm -rf $(DEMO)
	$(BIN)/nevus phantom --n $(DEMO_IMAGES) --side 128 --out $(DEMO)/phantoms
	$(BIN)/nevus audit $(DEMO)/phantoms --out $(DEMO)/audit
	$(BIN)/nevus train $(DEMO)/phantoms --epochs $(DEMO_EPOCHS) --out $(DEMO)/run
	$(BIN)/nevus evaluate $(DEMO)/phantoms --split test --bundle $(DEMO)/run/bundle --out $(DEMO)/evaluation
	$(BIN)/nevus predict $(DEMO)/phantoms/test/malignant --bundle $(DEMO)/run/bundle --out $(DEMO)/predictions.txt
	head -n 6 $(DEMO)/predictions.txt
	@echo "Look at $(DEMO)/phantoms/contact-sheet.jpg, $(DEMO)/audit/audit.html, $(DEMO)/run/curves.png and $(DEMO)/evaluation/evaluation.html"

test: .venv/ready check
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not long"

check: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test-long: .venv/ready
	$(BIN)/pytest -m long

docs: .venv/ready
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: .venv/ready
	$(BIN)/python -m benchmarks.speed
	$(BIN)/python -m benchmarks.engines
	$(BIN)/python -m benchmarks.sizes
	$(BIN)/python -m benchmarks.memory

results: .venv/ready
	$(BIN)/python -m experiments.render

clean:
	rm -rf .venv demo site
