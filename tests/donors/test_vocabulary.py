"""What the files of a tokenizer say, in each of the forms that libraries write."""

import json
from pathlib import Path
from typing import Any

import pytest

from safety_tax.donors.vocabulary import added_tokens, chat_template, ends_of_turn, read_vocabulary


def write(folder: Path, name: str, content: Any) -> Path:
    (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return folder / name


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"model": {"vocab": {"a": 0, "b": 5}}}, {"a": 0, "b": 5}),
        ({"model": {"vocab": [["a", -1.5], ["b", -2.0]]}}, {"a": 0, "b": 1}),  # unigram: places by order
        ({"model": {"vocab": {"a": 0}}, "added_tokens": [{"content": "<x>", "id": 9}]}, {"a": 0, "<x>": 9}),
        ({"model": {"vocab": {"a": 0}}, "added_tokens": [{"content": "a", "id": 7}]}, {"a": 7}),  # added ones count
        ({"model": None, "added_tokens": None}, {}),
        ({}, {}),
    ],
)
def test_every_token_has_its_row(content: Any, expected: dict[str, int], tmp_path: Path) -> None:
    assert read_vocabulary(write(tmp_path, "tokenizer.json", content)) == expected


def test_without_a_file_there_is_no_vocabulary(tmp_path: Path) -> None:
    assert read_vocabulary(tmp_path / "tokenizer.json") is None


def test_added_tokens_are_those_outside_of_the_model(tmp_path: Path) -> None:
    content = {"model": {"vocab": {"a": 0}}, "added_tokens": [{"content": "<x>", "id": 9, "special": True}]}
    assert added_tokens(write(tmp_path, "tokenizer.json", content)) == {"<x>": 9}


def test_a_template_in_a_file_of_its_own_comes_before_the_one_in_the_settings(tmp_path: Path) -> None:
    assert chat_template(tmp_path) is None
    write(tmp_path, "tokenizer_config.json", {"eos_token": "</s>"})
    assert chat_template(tmp_path) is None
    write(tmp_path, "tokenizer_config.json", {"chat_template": "{{ old }}"})
    assert chat_template(tmp_path) == "{{ old }}"
    write(tmp_path, "tokenizer_config.json", {"chat_template": [{"name": "default", "template": "{{ a }}"}]})
    assert "{{ a }}" in str(chat_template(tmp_path))  # several by name
    (tmp_path / "chat_template.jinja").write_text("{{ own }}", encoding="utf-8")
    assert chat_template(tmp_path) == "{{ own }}"


@pytest.mark.parametrize(
    ("settings", "config", "ends"),
    [
        ({"eos_token": "</s>"}, {}, {"</s>"}),
        ({"eos_token": {"content": "</s>"}}, {"eos_token_id": 1}, {"</s>", "b"}),
        ({"eos_token": "</s>"}, {"eos_token_id": [0, 2]}, {"</s>", "a", "c"}),
        ({"eos_token": "</s>"}, None, {"</s>"}),
    ],
)
def test_a_turn_ends_with_what_either_file_names(settings: Any, config: Any, ends: set[str], tmp_path: Path) -> None:
    write(tmp_path, "tokenizer_config.json", settings)
    if config is not None:
        write(tmp_path, "config.json", config)
    assert ends_of_turn(tmp_path, {"a": 0, "b": 1, "c": 2}) == ends
