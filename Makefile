# Two commands for everyone: `make serve` and `make test`. Each sets up all it needs in .venv.
PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 8080
DIRECTORY ?= uploads
SERVE_OPTIONS ?= --anonymous

# Tests run in this many processes at once: one more than two cores run, since some tests wait.
WORKERS ?= 3
PYTEST = .venv/bin/python -m pytest -n $(WORKERS) --dist loadscope --no-loadscope-reorder

# All reStructuredText: a warning of docutils fails the lint, as the package index would refuse such a README.
DOCUMENTS = README.txt CHANGES.txt $(wildcard docs/*.txt bench/README.txt examples/README.txt examples/*/README.txt)

.PHONY: serve test test-full check lint bench clean

serve: .venv/.server
	exec .venv/bin/fileupload serve --host $(HOST) --port $(PORT) --directory "$(DIRECTORY)" $(SERVE_OPTIONS)

test: .venv/.test
	$(PYTEST) -m "not full" $(TESTS)

# All of it, with what tries a step again and again: crashes, races and faults.
test-full: .venv/.test
	$(PYTEST) $(TESTS)

# What every commit passes.
check: lint
	$(PYTEST) -m "not full" tests/unit

lint: .venv/.lint
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	for file in $(DOCUMENTS); do .venv/bin/python -m docutils --halt=2 $$file /dev/null || exit 1; done

bench: .venv/.bench
	.venv/bin/python -m bench $(BENCH_OPTIONS)

clean:
	rm -rf .venv build dist src/*.egg-info

.venv/bin/python:
	$(PYTHON) -m venv .venv

# Each set-up is done once, and again when what it installs has changed.
.venv/.%: setup.py pyproject.toml | .venv/bin/python
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -e '.[$*]'
	touch $@

.venv/.lint: .venv/.test .venv/.bench setup.py pyproject.toml | .venv/bin/python
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -e '.[lint]'
	touch $@
