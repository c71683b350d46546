# The five things people do. `just` lists them; each is a line or two that you may also type.

python := if path_exists(".venv/bin/python") == "true" { ".venv/bin/python" } else { "python3" }

[private]
default:
    @just --list

# Make .venv and install the project with the tools of its tests
setup:
    python3 -m venv .venv
    .venv/bin/pip install --quiet -e '.[test]'

# Measure what params.yaml says, and show the numbers
run:
    {{ python }} -m dvc repro
    {{ python }} -m dvc metrics show

# Run the tests: all quick ones, or those that are named, as in `just test tests/merging/test_merging.py`
test *tests:
    {{ python }} -m pytest --numprocesses 2 {{ tests }}

# Lint, format and types
check:
    {{ python }} -m ruff check .
    {{ python }} -m ruff format --check .
    {{ python }} -m mypy

# Build the documentation into site/, as strictly as CI
docs:
    {{ python }} -m mkdocs build --strict
