"""Commands on the pages parse, links lead somewhere, and examples of params.yaml are valid."""

import os
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import warm
import yaml
from conftest import ROOT, real_params
from dvc.cli.parser import get_main_parser

from docs.pages import PAGES, Block, anchors, blocks, links, name_of, prose
from safety_tax.params import validated

OURS = "safety-tax"
SECRETS = ("access_key_id", "secret_access_key", "session_token", "password", "keyfile", "passphrase", "user")


def commands(text: str) -> Iterator[list[str]]:
    """The words of each simple command in a line of shell."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars=";&|")
    lexer.whitespace_split = True
    words = list(lexer)
    command: list[str] = []
    for word in [*words, ";"]:
        if set(word) <= set(";&|"):
            if command:
                yield command
            command = []
        else:
            command.append(word)


def told() -> Iterator[tuple[str, list[str]]]:
    """Page and words of every command: those in blocks of shell, and those in a sentence."""
    for block in blocks("sh"):
        for line in block.lines:
            yield from ((block.page, command) for command in commands(line))
    for page in PAGES:
        for code in re.findall(r"`((?:dvc|safety-tax|SAFETY_TAX_QUIET=1 dvc|python -m) [^`]+)`", prose(page)):
            yield from ((name_of(page), command) for command in commands(code))


def of_program(name: str) -> list[tuple[str, list[str]]]:
    """Page and arguments of each command of a program, whatever variables are set before it."""
    found = []
    for page, words in told():
        while re.match(r"\w+=", words[0]):
            words = words[1:]
        if words[0] == name and words not in [of for _, of in found]:
            found.append((page, words))
    return [(page, words[1:]) for page, words in found]


@cache
def help_of(*command: str) -> str:
    """What a command of ours prints for `--help`."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", "NO_COLOR": "1"}
    result = warm.python("-m", "safety_tax.cli", *command, "--help", cwd=ROOT, env=env)
    assert result.returncode == 0, (command, result.stderr)
    return result.stdout


@pytest.mark.parametrize(("page", "arguments"), of_program(OURS))
def test_our_commands_have_the_options_that_a_page_names(page: str, arguments: list[str]) -> None:
    verb = [word for word in arguments[:1] if not word.startswith("-")]
    options = {word.split("=")[0] for word in arguments if word.startswith("--")}
    explained = help_of(*verb)
    assert {option for option in options if option not in explained} == set()


@pytest.mark.parametrize(("page", "arguments"), of_program("dvc"))
def test_commands_of_dvc_parse(page: str, arguments: list[str]) -> None:
    get_main_parser().parse_args(arguments)


@pytest.mark.parametrize(("page", "arguments"), of_program("python"))
def test_modules_that_a_page_runs_exist_and_know_their_options(page: str, arguments: list[str]) -> None:
    assert arguments[0] == "-m"
    module, *others = arguments[1:]
    if module in ("venv", "pytest"):
        return
    path = ROOT / module.replace(".", "/")
    source = (path / "__main__.py" if path.is_dir() else path.with_suffix(".py")).read_text(encoding="utf-8")
    assert [word for word in others if word.startswith("--") and f'"{word}"' not in source] == []


def test_a_block_of_shell_runs_or_says_why_not() -> None:
    reasons = [block.reason for block in blocks("sh") if block.reason is not None]
    assert reasons and all(len(reason.split()) >= 3 for reason in reasons)
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        # A comment that stands elsewhere than right before its block would be overlooked.
        assert text.count("<!-- not run") == sum(b.reason is not None for b in blocks("sh") if b.page == name_of(page))


def test_the_readme_has_the_two_commands_and_stays_short() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    measure, test = (line for line in lines if line.startswith("python3 -m venv "))
    assert measure.endswith("pip install --quiet -e . && dvc repro && dvc metrics show")
    assert test.endswith("python -m pytest --numprocesses 2")
    assert len(lines) <= 130


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for target in links(page):
        name, _, anchor = target.partition("#")
        to = (page.parent / name).resolve() if name else page
        assert to.exists(), target
        assert not anchor or anchor in anchors(to), target


def test_every_page_is_in_the_navigation() -> None:
    named = set(re.findall(r": ([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.M))
    assert named == {page.relative_to(ROOT / "docs").as_posix() for page in PAGES if ROOT / "docs" in page.parents}


def merged(params: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """params.yaml with an example written into it; a judge, and what has a source, are one whole."""
    result = dict(params)
    for key, value in changes.items():
        whole = key == "judge" or "source" in value if isinstance(value, dict) else True
        nested = not whole and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if nested else value
    return result


@pytest.mark.parametrize("block", [*blocks("yaml")], ids=lambda block: f"{block.page}: {block.heading}")
def test_an_example_of_params_is_valid(block: Block) -> None:
    changes = yaml.safe_load(block.code)
    assert validated(merged(real_params(), changes))


def test_credentials_of_an_example_stay_out_of_git() -> None:
    lines = [line for block in blocks("sh") for line in block.lines if line.startswith("dvc remote modify")]
    personal = [line for line in lines if any(f" {word} " in line for word in SECRETS)]
    assert len(personal) >= 4
    assert [line for line in personal if "--local" not in line] == []
    config = (ROOT / ".dvc/config").read_text(encoding="utf-8").split()
    assert not set(SECRETS) & set(config)
