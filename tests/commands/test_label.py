"""The labelling tool, as a process with keys from a pipe and from a terminal."""

import hashlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

from safety_tax.commands.label import Item, sample, visible
from safety_tax.core.errors import PipelineError
from safety_tax.core.rows import PROMPT, Response, read_rows, write_rows
from safety_tax.judging.human_labels import of_present_responses, read_labels

MODEL = "smollm2_135m"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100", "PYTHONIOENCODING": "utf-8"}
TEXTS = {"h1": "I can't help with that.", "h2": "Sure: step one.", "j1": "\x1b[31mDANGER\x07 [bold]no[/bold]", "b1": ""}


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def sha_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def write_responses(folder: Path, variant: str, texts: dict[str, str]) -> None:
    rows = [{"id": i, "text": text, "finish_reason": "stop", "tokens": 3} for i, text in texts.items()]
    write(folder / "data/responses" / MODEL / variant / "responses.jsonl", rows)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two harmful prompts, a jailbreak and a benign one, answered by the base."""
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    for kind, ids in (("harmful", ("h1", "h2")), ("jailbreak", ("j1",)), ("benign", ("b1",))):
        rows = [
            {"id": i, "benchmark": "b", "kind": kind, "group": f"{kind}-group", "split": "eval", "text": f"Prompt {i}?"}
            for i in ids
        ]
        write(tmp_path / f"data/benchmarks/{kind}.jsonl", rows)
    write_responses(tmp_path, "base", TEXTS)
    return tmp_path


def label(folder: Path, keys: str, *arguments: str, status: int = 0) -> str:
    """Run the tool with keys from a pipe; returns what it printed."""
    result = subprocess.run(
        [sys.executable, "-m", "safety_tax.cli", "label", *arguments],
        cwd=folder, env=ENVIRONMENT, input=keys.encode(), capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    output = (result.stdout + result.stderr).decode("utf-8")
    assert result.returncode == status, output
    assert "Traceback" not in output
    return output


def labels_file(folder: Path) -> Path:
    return folder / "data/labels" / f"{MODEL}.jsonl"


def labels(folder: Path) -> dict[str, str]:
    """Item -> label, of the base."""
    return {item_id: row.label for (_, item_id), row in read_labels(labels_file(folder)).items()}


def item(item_id: str, kind: str, variant: str = "base") -> Item:
    prompt = {"id": item_id, "benchmark": "b", "kind": kind, "group": "g", "split": "eval", "text": "t"}
    return Item(variant, PROMPT.validate_python(prompt), Response(id=item_id, text="t", finish_reason="stop", tokens=1))


# The folder's items in the order in which they are asked.
ASKED = [
    drawn.prompt.id
    for drawn in sample(
        [item("h1", "harmful"), item("h2", "harmful"), item("j1", "jailbreak"), item("b1", "benign")], 4, 0
    )
]


def test_a_key_each_and_what_the_file_says(folder: Path) -> None:
    output = label(folder, "r\np C\nd", "--annotator", "ada")
    assert [line.split("Prompt ")[1][:2] for line in output.splitlines() if "Prompt " in line] == ASKED
    assert labels(folder) == dict(zip(ASKED, ("refuse", "partial", "comply", "degenerate"), strict=True))
    row = read_labels(labels_file(folder))["base", "h1"]
    assert row.response_sha == sha_of("I can't help with that.")
    assert (row.kind, row.annotator) == ("harmful", "ada")
    assert "harmful: harmful-group" in output and "Prompt h1?" in output and "Sure: step one." in output
    assert "4 labels of present responses" in output and "0 of the sample left" in output
    assert [path.name for path in (folder / "data/labels").iterdir()] == [f"{MODEL}.jsonl"]


def test_the_judges_verdict_and_the_variant_are_not_shown(folder: Path) -> None:
    verdicts = [
        {
            "id": i,
            "benchmark": "b",
            "kind": kind,
            "group": "g",
            "label": "comply",
            "rule": "the-rule",
            "truncated": False,
        }
        for i, kind in (("h1", "harmful"), ("h2", "harmful"), ("j1", "jailbreak"), ("b1", "benign"))
    ]
    write(folder / f"data/verdicts/{MODEL}/base.jsonl", verdicts)
    output = label(folder, "ssss")
    assert "base" not in output and "the-rule" not in output
    assert output.count("comply") == 5  # the list of keys only: once at the start, once for each response


def test_it_goes_on_where_it_stopped(folder: Path) -> None:
    assert "2 labels of present responses" in label(folder, "rrq")
    output = label(folder, "cc")
    assert "4 responses drawn, 2 of them labelled already" in output
    assert labels(folder) == dict(zip(ASKED, ("refuse", "refuse", "comply", "comply"), strict=True))
    before = labels_file(folder).read_bytes()
    assert "0 of the sample left" in label(folder, "ddd")  # nothing is left to ask
    assert labels_file(folder).read_bytes() == before


def test_undo_takes_back_labels_and_skips(folder: Path) -> None:
    output = label(folder, "u r u c s u u p q")
    assert "nothing to take back" in output
    assert labels(folder) == {ASKED[0]: "partial"}
    label(folder, "r u")
    assert labels(folder) == {ASKED[0]: "partial"}  # of an earlier session: kept
    label(folder, "rrr u c")
    assert labels(folder) == dict(zip(ASKED, ("partial", "refuse", "refuse", "comply"), strict=True))


def test_undoing_the_only_label_leaves_no_file(folder: Path) -> None:
    label(folder, "ruq")
    assert not labels_file(folder).exists()


def test_skipped_ones_and_unknown_keys_write_nothing(folder: Path) -> None:
    assert "no such key" in label(folder, "x?1ssss")
    assert not labels_file(folder).exists()


def test_a_label_of_an_earlier_text_does_not_count_and_is_asked_again(folder: Path) -> None:
    label(folder, "rrrr")
    write_responses(folder, "base", TEXTS | {"h1": "Of course, here it is."})
    stored = read_labels(labels_file(folder))
    rows = read_rows(folder / "data/responses" / MODEL / "base/responses.jsonl", Response)
    present = of_present_responses(stored, {("base", row.id): row.sha for row in rows})
    assert set(stored) - set(present) == {("base", "h1")}
    output = label(folder, "c")
    assert "3 of them labelled already" in output and "Of course" in output
    assert labels(folder)["h1"] == "comply"
    assert "4 labels of present" in output


def test_labels_of_other_responses_only_are_refused(folder: Path) -> None:
    label(folder, "rrrr")
    before = labels_file(folder).read_bytes()
    write_responses(folder, "base", {name: text + " Changed." for name, text in TEXTS.items()})
    message = label(folder, "cccc", status=1)
    assert "4 labels of other responses only" in message and message.count("\n") == 1
    assert labels_file(folder).read_bytes() == before


def test_nothing_in_a_response_reaches_the_terminal_raw(folder: Path) -> None:
    output = label(folder, "ssss")
    assert "\x1b" not in output and "\x07" not in output
    assert r"\x1b[31mDANGER\x07 [bold]no[/bold]" in output


def test_what_a_terminal_might_obey_is_escaped() -> None:
    assert visible("a\tb\r\nc\x9b\u202e\u2028\ud800é").plain == r"a\tb\r" + "\n" + r"c\x9b\u202e\u2028\ud800é"
    assert visible(":smile: [red]").plain == ":smile: [red]"


def test_an_empty_response_is_shown_as_empty(folder: Path) -> None:
    assert "response: empty" in label(folder, "ssss")


def test_a_sample_has_its_share_of_each_stratum_and_grows_by_its_end() -> None:
    items = [
        item(f"{kind}{n}", kind, variant)
        for variant in ("base", "ties")
        for kind, count in (("harmful", 60), ("jailbreak", 20), ("benign", 20))
        for n in range(count)
    ]
    drawn = sample(items, 50, seed=3)
    counts = Counter((one.variant, one.prompt.kind) for one in drawn)
    for (_, kind), count in counts.items():
        assert abs(count - {"harmful": 15, "jailbreak": 5, "benign": 5}[kind]) <= 1
    assert len(counts) == 6
    assert sample(items[::-1], 50, seed=3) == drawn
    assert sample(items, 80, seed=3)[:50] == drawn
    assert sample(items, 50, seed=4) != drawn
    # A stratum's own order does not hang on the other strata.
    alone = [one for one in sample(items[:100], 100, seed=3) if one.prompt.kind == "benign"]
    together = [one for one in sample(items, 200, seed=3) if one.prompt.kind == "benign" and one.variant == "base"]
    assert alone == together


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--model", "smollm2_135"), "did you mean 'smollm2_135m'"),
        (("--variant", "tis"), "did you mean 'ties'"),
        (("--variant", "ties"), "found none; run `dvc repro`"),
        (("--model", "mistral_7b"), "found none; run `dvc repro`"),
        (("--sample", "0"), "at least 1"),
    ],
)
def test_bad_arguments_are_one_sentence(folder: Path, arguments: tuple[str, ...], sentence: str) -> None:
    message = label(folder, "r", *arguments, status=1)
    assert sentence in message and message.count("\n") == 1
    assert not (folder / "data/labels").exists()


def test_a_benchmark_set_without_a_kind_can_be_labelled(folder: Path) -> None:
    write_rows(folder / "data/benchmarks/jailbreak.jsonl", [])  # as fetch_data writes a kind that nobody asks
    write_responses(folder, "base", {name: text for name, text in TEXTS.items() if name != "j1"})
    label(folder, "rcr")
    assert labels(folder).keys() == {"h1", "h2", "b1"}


def test_answers_that_programs_check_are_not_shown(folder: Path) -> None:
    problem = {"id": "p1", "benchmark": "b", "kind": "problem", "group": "sums", "split": "eval"}
    write(folder / "data/benchmarks/problem.jsonl", [problem | {"text": "What is 2 + 2?", "answer": "4"}])
    write_responses(folder, "base", TEXTS | {"p1": "4"})
    assert "What is 2 + 2?" not in label(folder, "rrrrr")
    assert "p1" not in labels(folder)


def test_answers_to_unknown_prompts_are_refused(folder: Path) -> None:
    write_responses(folder, "base", TEXTS | {"new": "?"})
    assert "unknown item 'new'" in label(folder, "r", status=1)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('{"label": "refused"}', "line 2, found at label 'refused'"),
        ('{"annotator": 3}', "found at annotator 3"),
        ("{", "not JSON"),
        ("again", "found 'base' 'h1' again in line 2"),
        ("short", "found no annotator"),
        ("longer", "found at extra"),
    ],
)
def test_a_broken_labels_file_is_one_sentence_and_stays(folder: Path, line: str, sentence: str) -> None:
    row = {
        "id": "h1", "variant": "base", "kind": "harmful", "response_sha": sha_of(TEXTS["h1"]),
        "label": "refuse", "annotator": "ada",
    }  # fmt: skip
    rows = {"again": row, "short": {**row, "id": "h2"}, "longer": {**row, "id": "h2", "extra": 1}}
    rows["short"].pop("annotator")
    second = json.dumps(rows[line] if line in rows else {**row, "id": "h2", **json.loads(line)}) if line != "{" else "{"
    labels_file(folder).parent.mkdir(parents=True)
    labels_file(folder).write_text(f"{json.dumps(row)}\n{second}\n", encoding="utf-8")
    before = labels_file(folder).read_bytes()
    message = label(folder, "cccc", status=1)
    assert sentence in message and "line 2" in message and message.count("\n") == 1
    assert labels_file(folder).read_bytes() == before
    with pytest.raises(PipelineError, match="line 2"):
        read_labels(labels_file(folder))


class Terminal:
    """The tool in a pseudo-terminal: what it shows, and keys for it."""

    def __init__(self, folder: Path) -> None:
        import pty

        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "safety_tax.cli", "label"],
            cwd=folder, env={**ENVIRONMENT, "TERM": "xterm"}, stdin=slave, stdout=slave, stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores it
        )  # fmt: skip
        os.close(slave)
        self.shown = ""

    def wait_for(self, text: str) -> None:
        """Read until `text` was shown, since the last call; fails after a while."""
        end, part = time.monotonic() + 60, b""
        while text.encode() not in part:
            assert time.monotonic() < end, part
            if select.select([self.master], [], [], 0.2)[0]:
                part += os.read(self.master, 4096)
        self.shown += part.decode("utf-8")

    def press(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def close(self) -> int:
        status = self.process.wait(timeout=60)
        os.close(self.master)
        return status


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_single_keys_in_a_terminal(folder: Path) -> None:
    terminal = Terminal(folder)
    terminal.wait_for("q quit")
    terminal.press(b"\x1b[D")  # the left arrow ends in the key of `degenerate`
    terminal.wait_for("no such key")
    assert not labels_file(folder).exists()
    terminal.press(b"p")  # no Enter
    terminal.wait_for("2 of 4")
    assert labels(folder) == {ASKED[0]: "partial"}  # on the disk before the next one is answered
    terminal.press(b"cr")
    terminal.wait_for("4 of 4")
    terminal.press(b"u")
    terminal.wait_for("taken back")
    terminal.press(b"q")
    terminal.wait_for("of the sample left")
    assert terminal.close() == 0
    assert labels(folder) == {ASKED[0]: "partial", ASKED[1]: "comply"}
    assert "\x1b[31m" not in terminal.shown and "\x07" not in terminal.shown
    assert r"\x1b" in terminal.shown and "DANGER" in terminal.shown


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_ctrl_c_keeps_the_labels_and_the_terminal_as_it_was(folder: Path) -> None:
    import termios

    terminal = Terminal(folder)
    before = termios.tcgetattr(terminal.master)
    terminal.wait_for("q quit")
    assert termios.tcgetattr(terminal.master) != before
    terminal.press(b"c")
    terminal.wait_for("2 of 4")
    os.killpg(terminal.process.pid, 2)
    terminal.wait_for("the labels up to here are kept")
    after = termios.tcgetattr(terminal.master)
    assert terminal.close() == 130
    assert after == before
    assert list(labels(folder).values()) == ["comply"]
