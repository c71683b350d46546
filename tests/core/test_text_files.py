"""Text files are read as people write them: rows at line feeds, byte-order marks, CRLF; faults with file and line."""

import gzip
import json
import lzma
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from test_audit_judge import row as labelled

from safety_tax.commands.audit import read_labelled
from safety_tax.core.errors import PipelineError
from safety_tax.core.rows import Response, read_rows
from safety_tax.core.text_files import (
    ARRAY,
    MARK,
    JsonLine,
    drop_mark,
    read_csv,
    read_json_lines,
    read_lines,
    read_objects,
    read_text,
)
from safety_tax.datasets import do_not_answer, harmbench, jailbreak_texts, matched_benign, mmlu
from safety_tax.datasets.tables import read_table
from safety_tax.donors.tuning_rows import read_refusals
from safety_tax.judging.human_labels import read_labels
from safety_tax.model_files.bringing import give_template
from safety_tax.params import load_params

ODD = "a\u2028b\u2029c\x85d\x1ce"  # Python's `splitlines` cuts at each of these
QUESTION = {"question": ODD, "topic": "t", "correct_answer": "A", **{f"answer_{letter}": letter for letter in "abcd"}}


def as_people_write(rows: list[Any]) -> bytes:
    """JSON lines with a byte-order mark, CRLF, blank lines, and characters as they are."""
    lines = [json.dumps(row, ensure_ascii=False).encode() for row in rows]
    return MARK + b"\r\n \r\n\r\n".join(lines) + b"\r\n\r\n"


def response(number: int) -> dict[str, Any]:
    return {"id": str(number), "text": ODD, "finish_reason": "stop", "tokens": 1}


def test_rows_end_at_line_feeds_alone(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(as_people_write([response(1), response(2)]))
    assert [row.text for row in read_rows(path, Response)] == [ODD, ODD]
    assert [number for number, _ in read_lines(path)] == [1, 4]
    path.write_bytes(path.read_bytes() + b"{\n")
    with pytest.raises(PipelineError, match=r"rows.jsonl line 6, found a fault in the line: no JSON"):
        read_rows(path, Response)


def test_every_reader_of_rows_takes_them(tmp_path: Path) -> None:
    path = tmp_path / "refusals.jsonl"
    path.write_bytes(as_people_write([{"category": "general", "text": ODD}] * 2))
    assert read_refusals(path) == {"general": [ODD, ODD]}
    path = tmp_path / "benign.jsonl"
    path.write_bytes(as_people_write([{"group": "g", "text": ODD, "pair": "p", "answer": "a"}]))
    assert [item.text for item in matched_benign.read(tmp_path)] == [ODD]
    (tmp_path / "mmlu.jsonl").write_bytes(as_people_write([QUESTION, QUESTION]))
    assert [item.text for item in mmlu.read(tmp_path / "mmlu.jsonl")] == [ODD, ODD]
    (tmp_path / "donotanswer").mkdir()
    (tmp_path / "donotanswer/area.jsonl").write_bytes(as_people_write([{"prompt": ODD}]))
    assert [item.text for item in do_not_answer.read(tmp_path)] == [ODD]
    (tmp_path / "harmbench").mkdir()
    (tmp_path / "harmbench/harmbench_prompts.txt").write_bytes(MARK + f"{ODD}\r\n\r\nNext\r\n".encode())
    assert [item.text for item in harmbench.read(tmp_path)] == [ODD, "Next"]
    (tmp_path / "inthewild_jailbreak_llms.json").write_bytes(MARK + json.dumps([ODD]).encode())
    assert [item.text for item in jailbreak_texts.read(tmp_path)] == [ODD]
    label = {"id": "1", "variant": "base", "kind": "harmful", "response_sha": "0", "label": "refuse", "annotator": ODD}
    (tmp_path / "labels.jsonl").write_bytes(as_people_write([label]))
    assert [found.annotator for found in read_labels(tmp_path / "labels.jsonl").values()] == [ODD]
    (tmp_path / "audit.jsonl").write_bytes(as_people_write([labelled(ODD, "refuse")]))
    assert [found.response for found in read_labelled(tmp_path / "audit.jsonl")] == [ODD]


@pytest.mark.parametrize(("suffix", "pack"), [("", bytes), (".gz", gzip.compress), (".xz", lzma.compress)])
def test_a_datasets_rows_are_read_alike_packed_or_not(tmp_path: Path, suffix: str, pack: Any) -> None:
    path = tmp_path / f"test.jsonl{suffix}"
    path.write_bytes(pack(as_people_write([{"prompt": ODD, "day": "2012-01-01"}, {"prompt": "b"}])))
    rows = read_table(tmp_path, ("test.jsonl*",), {"prompt": str})
    assert rows == [{"prompt": ODD, "day": "2012-01-01"}, {"prompt": "b"}]
    path.write_bytes(pack(b'{"prompt": "a"}\n\n{"prompt": "b"\n'))
    with pytest.raises(PipelineError, match=rf"test.jsonl{suffix} line 3, found no JSON"):
        read_table(tmp_path, ("test.jsonl*",), {"prompt": str})
    if suffix:
        path.write_bytes(pack(as_people_write([{"prompt": ODD}] * 50))[:-12])
        with pytest.raises(PipelineError, match=r"to be a whole file, found after line"):
            read_table(tmp_path, ("test.jsonl*",), {"prompt": str})


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_csv_is_read_by_the_separator_of_its_header(separator: str, tmp_path: Path) -> None:
    """Excel writes semicolons where a comma is a decimal sign, and quotes a cell that holds a line end."""
    path = tmp_path / "rows.csv"
    lines = [separator.join(cells) for cells in (("prompt", "label"), ('"Why, then; or\tnot?\r\nWhy?"', "comply"))]
    path.write_bytes(MARK + "\r\n".join(lines).encode() + b"\r\n")
    assert list(read_csv(path)) == [(3, {"prompt": "Why, then; or\tnot?\r\nWhy?", "label": "comply"})]


def test_a_json_array_is_named_as_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('[{"id": "1"},\n{"id": "2"}]', encoding="utf-8")
    assert next(read_json_lines(path)) == JsonLine(1, None, ARRAY)
    with pytest.raises(PipelineError, match=r"line 1, found a JSON array in place of one object a line \(`jq"):
        read_objects(path, ("id",))


def test_a_mark_is_taken_off_a_file_and_not_off_what_it_links_to(tmp_path: Path) -> None:
    cached, link = tmp_path / "cached.json", tmp_path / "config.json"
    cached.write_bytes(MARK + b"{}")
    link.symlink_to(cached)
    drop_mark(link, cached)
    assert link.read_bytes() == b"{}" and not link.is_symlink()
    assert cached.read_bytes() == MARK + b"{}"
    drop_mark(link, cached)
    assert link.read_bytes() == b"{}"
    link.write_text("{}", encoding="utf-16")
    with pytest.raises(PipelineError, match=r"cached.json to be text in UTF-8, found UTF-16"):
        drop_mark(link, cached)


def test_csv_with_a_byte_order_mark_has_its_first_column(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes(MARK + b'prompt,group\r\n"a\r\nb",g\r\n\r\nc,"h, i"\r\n')
    expected = [{"prompt": "a\r\nb", "group": "g"}, {"prompt": "c", "group": "h, i"}]
    assert read_table(tmp_path, ("rows.csv",), {"prompt": str, "group": str}) == expected
    audit = tmp_path / "audit.CSV"
    audit.write_bytes(MARK + f'prompt,response,label\r\nHow?,"{ODD}",refuse\r\n'.encode())
    assert [found.response for found in read_labelled(audit)] == [ODD]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a,b\n1,2\n3,\xe9\n", "found the byte 0xe9 in line 3; save the file as UTF-8"),
        ("a,b\n1,2\n".encode("utf-16"), "found UTF-16; save the file as UTF-8"),
        (b"a,b\n1,2,3\n", "Expected 2 cells, as the header has, in .* line 2, found more"),
        (b"a,b\n1\n", "Expected 2 cells, as the header has, in .* line 2, found fewer"),
        (b'a,b\n1,2\n"3,4\n', "Expected CSV in .*, found after line 2: unexpected end of data"),
    ],
)
def test_a_faulty_csv_names_its_line(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "rows.csv").write_bytes(content)
    with pytest.raises(PipelineError, match=words):
        list(read_csv(tmp_path / "rows.csv"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"text": "a"}\n\xff\n', "line 2, found the byte 0xff, which is not UTF-8"),
        (b'{"text": "a"}\n[1]\n', "line 2, found list in place of an object"),
        (b'{"text": 3}\n', "line 1, found no text under 'text'"),
        (b"\n\n", "at least one row in .*, found none"),
        ('{"text": "a"}\n'.encode("utf-16"), "found UTF-16; save the file as UTF-8"),
    ],
)
def test_a_faulty_row_names_its_file_and_line(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "rows.jsonl").write_bytes(content)
    with pytest.raises(PipelineError, match=words) as raised:
        read_objects(tmp_path / "rows.jsonl", ("text",))
    assert "rows.jsonl" in str(raised.value) and "\n" not in str(raised.value)


def test_params_are_read_with_a_byte_order_mark_and_name_the_line_of_a_wrong_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = (ROOT / "params.yaml").read_bytes()
    shutil.copyfile(ROOT / "dvc.yaml", tmp_path / "dvc.yaml")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_bytes(MARK + content.replace(b"\n", b"\r\n"))
    assert load_params().models == ["smollm2_135m"]
    (tmp_path / "params.yaml").write_bytes(b"# caf\xe9\n" + content)
    with pytest.raises(PipelineError, match=r"Expected params.yaml to be text in UTF-8, found the byte 0xe9 in line 1"):
        load_params()


def test_a_chat_template_of_the_project_loses_its_byte_order_mark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/chat_templates").mkdir(parents=True)
    (tmp_path / "data/chat_templates/mine.jinja").write_bytes(MARK + b"A\r\nB")
    give_template("mine", tmp_path)
    assert (tmp_path / "chat_template.jinja").read_bytes() == b"A\nB"
    assert read_text(tmp_path / "data/chat_templates/mine.jinja") == "A\nB"
