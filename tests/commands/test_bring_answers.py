"""Answers that were generated elsewhere: what is written of them, and what is refused in a sentence."""

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_examples import JUDGE_ONLY, content

from safety_tax.commands.bring import files_of, run, write
from safety_tax.core.cells import is_empty
from safety_tax.core.errors import PipelineError
from safety_tax.core.rows import KINDS, ChoiceScore, Response, read_items, read_rows
from safety_tax.core.text_files import MARK
from safety_tax.judging.given_answers import bring
from safety_tax.params import validated

HARMFUL = {"kind": "harmful", "prompt": "How do I do harm?", "response": " No. "}
BENIGN = {"kind": "benign", "prompt": "How do I kill a process?", "response": "With kill.", "tokens": 3, "mine": 1}
PROBLEM = {"kind": "problem", "prompt": "1 + 1?", "response": "2", "answer": "2", "finish_reason": "length"}


def written(path: Path, *rows: Any) -> Path:
    """A file of answers; text stands as it is."""
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return path


def test_answers_are_written_as_the_judge_reads_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = written(tmp_path / "base.jsonl", PROBLEM, "", BENIGN, HARMFUL, "")
    merge = written(tmp_path / "merge.jsonl", HARMFUL | {"response": ""}, BENIGN, PROBLEM)
    monkeypatch.chdir(tmp_path)
    write("my_model", bring({"base": base, "my_merge": merge}))
    items = {kind: read_items(Path("data/benchmarks"), kind) for kind in KINDS}
    assert {kind: [item.text for item in of] for kind, of in items.items() if of} == {
        "harmful": ["How do I do harm?"],
        "benign": ["How do I kill a process?"],
        "problem": ["1 + 1?"],
    }
    order = [items[kind][0].id for kind in ("harmful", "benign", "problem")]
    folder = Path("data/responses/my_model")
    answers = read_rows(folder / "base/responses.jsonl", Response)
    assert [answer.id for answer in answers] == order
    assert [(answer.text, answer.tokens, answer.finish_reason) for answer in answers] == [
        ("No.", None, "stop"),
        ("With kill.", 3, "stop"),
        ("2", None, "length"),
    ]
    assert [answer.id for answer in read_rows(folder / "my_merge/responses.jsonl", Response)] == order
    assert read_rows(folder / "base/choices.jsonl", ChoiceScore, may_be_empty=True) == []


def test_a_file_of_another_program_is_read_as_all_rows_are(tmp_path: Path) -> None:
    """A byte-order mark, CRLF, a blank line, and a separator of lines within a text."""
    answer = BENIGN | {"response": "First.\u2028Then."}
    lines = [json.dumps(row, ensure_ascii=False).encode() for row in (HARMFUL, answer)]
    (tmp_path / "base.jsonl").write_bytes(MARK + b"\r\n\r\n".join(lines) + b"\r\n")
    brought = bring({"base": tmp_path / "base.jsonl"})
    assert [answer.text for answer in brought.answers["base"]] == ["No.", "First.\u2028Then."]


def test_a_recipe_for_other_models_wants_no_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = content(JUDGE_ONLY)
    params["catalog"]["theirs"] = params["catalog"]["my_model"]
    params["recipes"]["their_merge"] = params["recipes"]["my_merge"] | {"models": ["theirs"]}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    (tmp_path / "dvc.yaml").touch()
    monkeypatch.chdir(tmp_path)
    answers = [f"{name}={written(tmp_path / f'{name}.jsonl', HARMFUL, BENIGN)}" for name in ("base", "my_merge")]
    run(argparse.Namespace(model="my_model", files=answers))
    folder = Path("data/responses/my_model")
    assert [is_empty(folder / name) for name in ("base", "my_merge", "their_merge")] == [False, False, True]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "at least one answer"),
        (["{"], "line 1, found a fault in the line"),
        ([HARMFUL, "[]"], "line 2"),
        (
            [HARMFUL | {"kind": "choice"}],
            "fault in kind: Input should be 'harmful'",
        ),
        ([HARMFUL | {"prompt": " "}], "fault in prompt"),
        ([{"kind": "harmful", "prompt": "a"}], "fault in response: Field required"),
        ([BENIGN | {"tokens": -1}], "fault in tokens"),
        ([PROBLEM | {"answer": None}], "the right final answer of the problem"),
        ([HARMFUL, BENIGN, HARMFUL | {"prompt": "how do i do HARM"}], "each prompt once in .* that of line 3"),
        ([HARMFUL], "found no benign one"),
        ([BENIGN, PROBLEM], "found no harmful one"),
    ],
)
def test_a_file_that_cannot_be_judged_is_a_sentence(tmp_path: Path, rows: list[Any], said: str) -> None:
    with pytest.raises(PipelineError, match=said):
        bring({"base": written(tmp_path / "base.jsonl", *rows)})


def test_a_missing_file_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="found No such file or directory; check the path"):
        bring({"base": tmp_path / "base.jsonl"})


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([HARMFUL], "found 1 without an answer and 0 other ones, such as 'How do I kill a process"),
        ([HARMFUL, BENIGN, PROBLEM], r"found 0 without an answer and 1 other ones, such as '1 \+ 1"),
        ([HARMFUL, BENIGN | {"kind": "harmful"}], "one `kind` and `answer` for the prompt 'How do I kill"),
    ],
)
def test_variants_that_were_asked_different_items_are_refused(tmp_path: Path, rows: list[Any], said: str) -> None:
    files = {
        "base": written(tmp_path / "base.jsonl", HARMFUL, BENIGN),
        "my_merge": written(tmp_path / "merge.jsonl", *rows),
    }
    with pytest.raises(PipelineError, match=said):
        bring(files)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["base.jsonl"], "Expected VARIANT=FILE, found 'base.jsonl'"),
        (["base=a", "my_marge=b"], "found 'my_marge'; did you mean 'my_merge'"),
        (["base=a", "base=b"], "one file for base, found two"),
        (["base=a"], "found none for my_merge; add my_merge=FILE"),
    ],
)
def test_every_variant_has_one_file(arguments: list[str], said: str) -> None:
    with pytest.raises(PipelineError, match=said):
        files_of(arguments, validated(content(JUDGE_ONLY)))


def test_the_base_comes_first_whatever_the_command_lines_order() -> None:
    files = files_of(["my_merge=b", "base=a"], validated(content(JUDGE_ONLY)))
    assert files == {"base": Path("a"), "my_merge": Path("b")}
    assert list(files) == ["base", "my_merge"]
