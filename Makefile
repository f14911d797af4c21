# make quickstart   environment, installation, and the two-minute demonstration
# make test         environment with the test extra, and the whole test suite
# make test-all     the same and the whole products of which it takes covers: an hour
# make test-tpu     programs compiled for TPUs, without one
# make lint docs wheel clean
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: quickstart test test-all test-tpu lint docs wheel clean

quickstart: $(VENV)/.installed
	$(BIN)/unilogit quickstart

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile --junitxml=build/junit.xml

test-all: $(VENV)/.installed-test
	$(BIN)/python -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile -m "full or not full"

test-tpu: $(VENV)-tpu/.installed
	$(VENV)-tpu/bin/python -m pytest tests/tpu

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

docs: $(VENV)/.installed-docs
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html

wheel: $(VENV)/.installed
	$(VENV)/bin/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip -q
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir build/wheel .

$(VENV)/.installed: pyproject.toml scripts/install.sh
	scripts/install.sh $(VENV) .
	@touch $@

$(VENV)/.installed-%: pyproject.toml scripts/install.sh
	scripts/install.sh $(VENV) '.[$*]'
	@touch $(VENV)/.installed $@

# libtpu has an environment of its own, on top of the usual one, so that the main suite never sees it.
$(VENV)-tpu/.installed: $(VENV)/.installed-test
	$(BIN)/python -m venv $(VENV)-tpu
	echo "import site; site.addsitedir('$$($(BIN)/python -c 'import site; print(site.getsitepackages()[0])')')" \
	  > "$$($(VENV)-tpu/bin/python -c 'import site; print(site.getsitepackages()[0])')/base.pth"
	$(VENV)-tpu/bin/python -m pip install --quiet --disable-pip-version-check 'jax[tpu]'
	@touch $@

clean:
	rm -rf $(VENV) $(VENV)-tpu build dist docs/_build
