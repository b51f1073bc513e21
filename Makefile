# Every target makes and reuses .venv and does all of its own set-up.
PYTHON ?= python3
BIN := .venv/bin
DEMO ?= demo

.PHONY: demo test test-long check docs bench results clean

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch torchvision
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test,docs]"
	touch $@

# The main job, whole, on synthetic lesions: draw, train, judge, predict.
demo: .venv/ready
	rm -rf $(DEMO)
	$(BIN)/nevus phantom --n 500 --out $(DEMO)/data
	$(BIN)/nevus train $(DEMO)/data --epochs 8 --out $(DEMO)/run
	$(BIN)/nevus evaluate $(DEMO)/data --split test --bundle $(DEMO)/run/bundle --out $(DEMO)/evaluation
	$(BIN)/nevus predict $(DEMO)/data/test/malignant --bundle $(DEMO)/run/bundle | head -n 6
	@echo "Look at $(DEMO)/data/contact-sheet.jpg, $(DEMO)/run/curves.png and $(DEMO)/evaluation/evaluation.html"

test: .venv/ready check
	$(BIN)/pytest -m "not long"

check: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test-long: .venv/ready
	$(BIN)/pytest -m long

docs: .venv/ready
	$(BIN)/mkdocs build --strict

bench: .venv/ready
	$(BIN)/python -m benchmarks.inference

results: .venv/ready
	$(BIN)/nevus results

clean:
	rm -rf .venv demo site
