# Two commands for everyone: `make serve` and `make test`. Each sets up all it needs in .venv.
PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 8080
DIRECTORY ?= uploads
SERVE_OPTIONS ?= --anonymous

.PHONY: serve test lint bench clean

serve: .venv/.server
	.venv/bin/fileupload serve --host $(HOST) --port $(PORT) --directory "$(DIRECTORY)" $(SERVE_OPTIONS)

test: .venv/.test
	.venv/bin/python -m pytest $(TESTS)

lint: .venv/.lint
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

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
