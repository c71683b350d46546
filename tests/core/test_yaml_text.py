"""YAML is read as PyYAML reads it, but for a key that comes twice."""

import re

import pytest
import yaml
from safety_tax.core.yaml_text import parse_yaml


@pytest.mark.parametrize(
    "text",
    [
        "a: [1, 2.5, on, ~, 2026-11-30, '1']\nb: {c: d}\n",
        "base: &base {x: 1, y: 2}\nmine: {<<: *base, y: 3}\n",
        "",
        "- &a [1]\n- *a\n",
    ],
)
def test_it_is_what_pyyaml_reads(text: str) -> None:
    assert parse_yaml(text) == yaml.safe_load(text)
    assert parse_yaml(text.encode()) == yaml.safe_load(text)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: [1, 2\nb: 3\n", "did not find expected ',' or '\\]' in line 2, column 2"),
        ("a: 1\nb: 2\na: 3\n", "the key 'a' twice in line 3, column 1"),
        ("a: {b: 1, b: 1}\n", "the key 'b' twice in line 1, column 11"),
        ("day: 2024-13-45\n", "month must be in 1..12"),
        ("a: \x01\n", "control characters are not allowed"),
        ("- [" * 20_000, "nesting depth|expected node content|brackets too deep"),
        ("{" * 5_000, "nesting depth|brackets too deep"),
        ("!!python/object/apply:os.getcwd []\n", "could not determine a constructor"),
        (b"a: \xff\n", "invalid|utf"),
    ],
)
def test_a_fault_is_one_line_with_its_place(text: str | bytes, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as found:
        parse_yaml(text)
    assert not re.search(r"\n", str(found.value))
