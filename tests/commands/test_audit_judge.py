"""`safety-tax audit` on small labelled files."""

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

from safety_tax.cli import run_command
from safety_tax.commands.audit import excerpt, load_judge, read_labelled
from safety_tax.core.errors import PipelineError
from safety_tax.judging.judges import JUDGE_TYPES

REFUSAL = "I can't help with that."
ANSWER = "Paris is the capital of France."


def row(response: str, label: str, **others: Any) -> dict[str, Any]:
    return {"prompt": "Question?", "response": response, "label": label, **others}


# By hand, refusals being positive: 3 hits, 1 miss, 1 false alarm, 3 others.
ROWS = [
    row(REFUSAL, "refuse", id="a", system="one"),
    row(REFUSAL, "refuse", id="b", system="one"),
    row(REFUSAL, "partial", id="c", system="one"),
    row(ANSWER, "refuse", id="d", system="one"),
    row(REFUSAL, "comply", id="a", system="two"),
    row(ANSWER, "comply", id="b", system="two"),
    row(ANSWER, "comply", id="c", system="two"),
    row("", "degenerate", id="d", system="two"),
]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> None:
    monkeypatch.setattr(sys, "argv", ["safety-tax", "audit", *map(str, arguments)])
    run_command("audit")


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    return write(tmp_path / "labelled.jsonl", ROWS)


def report(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> Any:
    def no_constant(name: str) -> None:
        raise AssertionError(f"not strict JSON: {name}")

    run(monkeypatch, *arguments, "--json")
    return json.loads(capsys.readouterr().out, parse_constant=no_constant)


def test_the_report_has_the_agreement_worked_out_by_hand(
    labelled: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = report(monkeypatch, capsys, labelled)
    assert (found["judge"], found["n"]) == ("rules", 8)
    assert found["precision"] == found["recall"] == found["f1"] == 0.75
    # Agreement 6/8; by chance 1/2: (.75 - .5) / (1 - .5).
    assert found["kappa"] == pytest.approx(0.5)
    counts = {
        label: {verdict: count for verdict, count in row.items() if verdict not in ("unfinished", "unjudged")}
        for label, row in found["confusion"].items()
        if label not in ("unfinished", "unjudged")
    }
    assert counts == {
        "refuse": {"refuse": 2, "partial": 0, "comply": 1, "degenerate": 0},
        "partial": {"refuse": 1, "partial": 0, "comply": 0, "degenerate": 0},
        "comply": {"refuse": 1, "partial": 0, "comply": 2, "degenerate": 0},
        "degenerate": {"refuse": 0, "partial": 0, "comply": 0, "degenerate": 1},
    }


def test_each_system_has_its_own_agreement(
    labelled: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    systems = report(monkeypatch, capsys, labelled)["systems"]
    assert list(systems) == ["one", "two"]
    assert systems["one"]["recall"] == 0.75
    # Nothing of system two is a refusal: its recall is undefined, which JSON writes as null.
    assert (systems["two"]["recall"], systems["two"]["precision"]) == (None, 0)


def test_without_systems_there_are_no_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "labelled.jsonl", [row(REFUSAL, "refuse"), row(ANSWER, "comply")])
    found = report(monkeypatch, capsys, path)
    assert (found["systems"], found["disagreements"], found["examples"]) == ({}, 0, [])


def test_disagreements_on_refusal_come_before_the_others(
    labelled: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = report(monkeypatch, capsys, labelled)
    assert [(item["name"], item["label"], item["verdict"]) for item in found["examples"]] == [
        ("d", "refuse", "comply"),
        ("a", "comply", "refuse"),
        ("c", "partial", "refuse"),
    ]
    assert (found["examples"][1]["rule"], found["examples"][1]["excerpt"]) == ("declines", REFUSAL)
    assert len(report(monkeypatch, capsys, labelled, "--examples", "1")["examples"]) == 1


def test_xstests_columns_and_labels_are_taken_as_they_are(tmp_path: Path) -> None:
    there = [
        {"id": 7, "prompt": "p", "completion": REFUSAL, "model": "gpt4", "label": "2_full_refusal", "annotation_1": ""},
        {"id": 8, "prompt": "p", "completion": ANSWER, "model": "gpt4", "label": "1_full_compliance"},
        {"id": 9, "prompt": "p", "completion": ANSWER, "model": "gpt4", "label": "3_partial_refusal"},
    ]
    rows = read_labelled(write(tmp_path / "xstest.jsonl", there))
    assert [(row.name, row.response, row.label, row.system) for row in rows] == [
        ("7", REFUSAL, "refuse", "gpt4"),
        ("8", ANSWER, "comply", "gpt4"),
        ("9", ANSWER, "partial", "gpt4"),
    ]
    table = tmp_path / "xstest.csv"
    with table.open("w", encoding="utf-8", newline="") as stream:
        columns = ["id", "prompt", "completion", "label", "final_label", "system"]
        first = ["v1", "p", 'Two\nlines, "quoted".', "safe", "2_full_refusal", ""]
        csv.writer(stream).writerows([columns, first, ["", "p", "", "safe", "1_full_compliance", ""]])
    one, other = read_labelled(table)
    assert (one.name, one.response, one.label, one.system) == ("v1", 'Two\nlines, "quoted".', "refuse", None)
    assert (other.name, other.response, other.label) == ("4", "", "comply")
    head = "\ufeffid,prompt,completion,final_label\n"  # as Excel writes it
    table.write_text(f"{head}v1,p,c,2_full_refusal\nv1,p,c,2_full_refusal\n", encoding="utf-8")
    with pytest.raises(PipelineError, match=r"each id once .* found v1 again in line 3"):
        read_labelled(table)
    table.write_text(f"{head}v1,p,c,2_ful_refusal\n", encoding="utf-8")
    with pytest.raises(PipelineError, match=r"Expected a known `label` in .* line 2"):
        read_labelled(table)
    table.write_bytes(b"id,prompt,completion,final_label\nv1,p,\xff,2_full_refusal\n")
    with pytest.raises(PipelineError, match="in UTF-8, found the byte 0xff in line 2; save"):
        read_labelled(table)


def test_a_row_without_an_id_is_named_by_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "labelled.jsonl", [row(ANSWER, "comply"), row(ANSWER, "refuse")])
    assert report(monkeypatch, capsys, path)["examples"][0]["name"] == "2"


def test_finish_reason_reaches_the_judge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cut_off = row("I understand your frustration, but I cannot", "refuse", finish_reason="length")
    path = write(tmp_path / "labelled.jsonl", [cut_off])
    assert report(monkeypatch, capsys, path)["disagreements"] == 0


def test_people_read_tables_without_markup_or_escape_sequences(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hostile = "\x1b[31m[bold]Paris[/nonsense] is\x1b]0;title\x07 the\u202e capital\x00 of \ud800France.\x9b2J"
    path = write(tmp_path / "labelled.jsonl", [row(hostile, "refuse", id="[red]x\x1b[2J", system="[/b]\x07s")])
    run(monkeypatch, path)
    shown = capsys.readouterr().out
    assert "[red]x" in shown
    assert "[/b]s" in shown
    assert "[bold]Paris" in "".join(shown.split())
    assert not set(shown) & set("\x1b\x07\x00\x9b\u202e\ud800")


def test_an_excerpt_is_one_short_line() -> None:
    assert excerpt("a\nb\t\x1b[1mc") == "a b c"
    assert len(excerpt("word " * 50)) == 100
    assert len(excerpt("\u200b" * 10_000 + "x" * 10_000)) <= 100


def test_an_id_may_come_back_with_another_system_only(tmp_path: Path, labelled: Path) -> None:
    assert len(read_labelled(labelled)) == len(ROWS)
    path = write(tmp_path / "twice.jsonl", [*ROWS, ROWS[0]])
    with pytest.raises(PipelineError, match=r"each id once in .*twice\.jsonl, found a again in line 9"):
        read_labelled(path)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("not JSON", "Expected a JSON object in .* line 1, found no JSON"),
        ("12", "found int; repair"),
        ("[1, 2]", "found a JSON array in place of one object a line"),
        ("[" * 100_000, "found a JSON array"),
        ('{"a": ' * 100_000, "found no JSON"),
        ('{"response": "a", "label": "refuse"}', "Expected a text `prompt` in .* line 1, found none"),
        ('{"id": "7", "response_sha": "0", "label": "refuse"}', "found a label of `safety-tax label`, .* `dvc repro`"),
        ('{"prompt": "a", "response": 1, "label": "refuse"}', "Expected a text `response` in .*, found 1"),
        (
            '{"prompt": "a", "response": "b"}',
            "Expected a known `label` in .*, found none; write one of refuse, partial",
        ),
        ('{"prompt": "a", "response": "b", "label": null}', "found null; write one of"),
        ('{"prompt": "a", "response": "b", "label": "refused"}', "found \"refused\"; did you mean 'refuse'"),
        ('{"prompt": "a", "response": "b", "label": ["refuse"]}', "Expected a known `label`"),
        ('{"prompt": "a", "response": "b", "label": "comply", "system": 3}', "Expected a text `system`"),
        ('{"prompt": "a", "response": "b", "label": "comply", "id": [3]}', "Expected a text or a number as `id`"),
        ('{"prompt": "a", "response": "b", "label": "comply", "finish_reason": "eos"}', "stop or length"),
    ],
)
def test_a_faulty_row_stops_with_one_sentence(tmp_path: Path, line: str, sentence: str) -> None:
    path = tmp_path / "labelled.jsonl"
    path.write_text(line + "\n", encoding="utf-8")
    with pytest.raises(PipelineError, match=sentence) as raised:
        read_labelled(path)
    assert "\n" not in str(raised.value)


def test_a_line_that_is_not_utf_8_stops_with_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "labelled.jsonl"
    path.write_bytes(json.dumps(row(ANSWER, "comply")).encode() + b'\n{"prompt": "\xff\xfe"}\n')
    with pytest.raises(PipelineError, match="line 2, found the byte 0xff, which is not UTF-8"):
        read_labelled(path)


def test_a_missing_or_empty_file_stops_with_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="found no such file"):
        read_labelled(tmp_path / "absent.jsonl")
    with pytest.raises(PipelineError, match="found no such file"):
        read_labelled(tmp_path)
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(PipelineError, match=r"at least one labelled response in .*, found none"):
        read_labelled(tmp_path / "empty.jsonl")


def test_a_model_judge_is_the_one_that_params_describes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(PipelineError, match="the classifier to audit, found 'rules'"):
        load_judge("classifier")


def test_every_judge_can_be_audited() -> None:
    with pytest.raises(PipelineError, match=f"known: {', '.join(sorted(JUDGE_TYPES))}"):
        load_judge("nobody's")


def test_a_misspelt_judge_is_told_the_near_match() -> None:
    with pytest.raises(PipelineError, match="found 'ruels'; did you mean 'rules'"):
        load_judge("ruels")


def test_bad_input_is_a_sentence_on_stderr_and_exit_status_1(tmp_path: Path) -> None:
    path = write(tmp_path / "labelled.jsonl", [row(ANSWER, "complied")])
    command = [sys.executable, "-m", "safety_tax.cli", "audit", str(path), "--json"]
    finished = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert (finished.returncode, finished.stdout) == (1, "")
    assert finished.stderr.strip().count("\n") == 0
    assert "did you mean 'comply'" in finished.stderr
