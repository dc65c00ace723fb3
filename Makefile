# Two commands: `make demo` shows what limen does, `make test` checks that it does it.

PYTHON ?= python3
DEMO_ENV := .venv
TEST_ENV := .venv-test
PIP_FLAGS := --quiet --disable-pip-version-check

.PHONY: demo test test-all test-board test-board-long format clean

demo: $(DEMO_ENV)/installed  ## install, then play a day at a simulated door
	$(DEMO_ENV)/bin/limen demo --out demo-out

$(DEMO_ENV)/installed: pyproject.toml $(wildcard core/*.py core/models/* calibration/*.py device/*.py demo/* cli/*.py)
	$(PYTHON) -m venv $(DEMO_ENV)
	$(DEMO_ENV)/bin/pip install $(PIP_FLAGS) '.[demo]'
	touch $@

# Tests run on the built wheel, not on the source tree: what is checked is what is shipped.
test: test-env  ## install everything the tests need, then run them
	$(TEST_ENV)/bin/ruff check .
	$(TEST_ENV)/bin/ruff format --check .
	$(TEST_ENV)/bin/mypy
	$(TEST_ENV)/bin/lint-imports
	$(TEST_ENV)/bin/pytest -m 'not slow and not emulated and not camera'

test-all: test-env  ## the slow ones too, and the stand-ins for a board
	$(TEST_ENV)/bin/pytest

# A board without a board (docs/testing.md): what is missing here is skipped, with the reason.
test-board: test-env  ## ARM wheels, picamera2, RTSP, a soak of 20,000 frames
	$(TEST_ENV)/bin/pytest tests/board

test-board-long: test-env  ## only what `make test` leaves out of it
	$(TEST_ENV)/bin/pytest tests/board -m 'slow or emulated or camera'

.PHONY: test-env
test-env:
	test -x $(TEST_ENV)/bin/python || $(PYTHON) -m venv $(TEST_ENV)
	$(TEST_ENV)/bin/pip install $(PIP_FLAGS) -c .ci/constraints.txt torch
	rm -rf build  # or modules that are gone would come back in the wheel
	$(TEST_ENV)/bin/pip install $(PIP_FLAGS) -c .ci/constraints.txt '.[dev]'
	$(TEST_ENV)/bin/pip install $(PIP_FLAGS) --force-reinstall --no-deps .

format:
	$(TEST_ENV)/bin/ruff check --fix . ; $(TEST_ENV)/bin/ruff format .

clean:
	rm -rf $(DEMO_ENV) $(TEST_ENV) build dist *.egg-info demo-out
