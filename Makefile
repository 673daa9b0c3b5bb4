# Doors for people who don't know Invoke. What they do stands in scripts/ and in `invoke`.
.DEFAULT_GOAL := help
.PHONY: help setup model demo test lint schemas lock clean

BIN := .venv/bin

help: ## show this
	@sed -n 's/^\([a-z]*\):.*## /  make \1	/p' $(MAKEFILE_LIST)

setup: ## make .venv from requirements.lock; nothing to do where it is up to date
	@scripts/setup.sh

model: setup ## put the demo's small real model under .demo/
	@scripts/demo_model.sh

demo: model ## run the main job on that model, on every target, with a table of results and a report
	@$(BIN)/invoke run --target=all --model=.demo/minilm --data=examples/texts.jsonl
	@$(BIN)/invoke report

# Two at a time, for one leaves much of two cores idle; each takes file after file in order, the long ones first.
test: model ## run all tests; PYTEST="-k store" chooses some
	@$(BIN)/pytest --numprocesses=2 --no-loadscope-reorder --cov --cov-report=term $(PYTEST)

lint: setup ## check code, types, shell scripts and workflows
	@scripts/lint.sh

schemas: setup ## write the JSON Schemas anew from the models that read the files
	@$(BIN)/python -m portwright.schemas

lock: setup ## compile the locks anew; LOCK=--upgrade takes newer releases
	@scripts/lock.sh $(LOCK)

clean: setup ## show what could be removed from artifacts/; CLEAN=--yes removes it
	@$(BIN)/invoke clean $(CLEAN)
