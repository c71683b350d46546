"""A run of `infer` that is stopped, however and whenever, goes on where it was, to the same bytes."""

import copy
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import workplace
from conftest import change_numbers
from workplace import ITEMS, JOURNAL, OUTPUT, infer, output_of, record_of, write_params

import stages.infer
from safety_tax.core.errors import PipelineError
from safety_tax.core.rows import PROMPT, read_rows, write_rows
from safety_tax.dispatch import journal as journal_module
from safety_tax.dispatch.journal import Journal, folder_digest, part_key
from safety_tax.dispatch.runners import Here, ResumedRun
from safety_tax.engine.gqa.session import TreeSession
from safety_tax.engine.gqa.tree import Tree
from safety_tax.engine.plain.engine import Plain
from safety_tax.engine.plain.session import PlainSession
from safety_tax.engine.protocol import Answers, Budget, Choice, Hooks, Part, Question, Questions, Sampling
from safety_tax.engine.running import run_items
from safety_tax.engine.session import CPU, CUDA
from safety_tax.settings.stages import Run


@pytest.fixture(scope="module")
def built(
    tiny_models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any], dict[str, bytes]]:
    """A folder, its params, and what an undisturbed run writes."""
    folder = tmp_path_factory.mktemp("workplace")
    params = workplace.build(folder, tiny_models["tiny_llama"])
    with pytest.MonkeyPatch.context() as patch:
        run_here(folder, patch)
    return folder, params, output_of(folder)


@pytest.fixture
def place(built: tuple[Path, dict[str, Any], dict[str, bytes]]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The folder with nothing run in it."""
    folder, params, _ = built
    for name in ("runs", "data/responses"):
        shutil.rmtree(folder / name, ignore_errors=True)
    before = {path: path.read_bytes() for path in (folder / "data/benchmarks").iterdir()}
    yield folder, copy.deepcopy(params)
    for path, content in before.items():
        path.write_bytes(content)
    write_params(folder, params)


def run_here(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """The stage in this process."""
    patch.chdir(folder)
    patch.setattr("sys.argv", ["infer", "tiny_llama", "base"])
    stages.infer.main()


def settings_of(params: dict[str, Any], **changed: Any) -> Run:
    return Run(**params["run"] | changed)


# Ends the process within the write of result number {at}, after {share} of its bytes.
STOPPED = """
import os, signal, safety_tax.dispatch.journal as journal
whole, count = journal.Journal.note, 0
def note(self, key, item, value):
    global count
    count += 1
    if count == {at}:
        whole(self, key, item, value)
        size = self.path.stat().st_size
        line = len(self.path.read_bytes().splitlines()[-1]) + 1
        os.truncate(self.path, size - line + int({share} * line))
        os.kill(os.getpid(), signal.{signal})
        import time; time.sleep(5)
    whole(self, key, item, value)
journal.Journal.note = note
"""


@pytest.mark.slow
def test_killed_at_three_moments_a_run_ends_with_the_same_bytes(
    place: tuple[Path, dict[str, Any]], built: tuple[Path, dict[str, Any], dict[str, bytes]]
) -> None:
    folder, _ = place
    for at, share in ((3, 1.0), (20, 0.5), (1, 0.0), (25, 0.99)):
        infer(folder, STOPPED.format(at=at, share=share, signal="SIGKILL"), status=-9)
        assert (folder / JOURNAL).exists() and not (folder / OUTPUT).exists()
    said = infer(folder)
    assert output_of(folder) == built[2]
    assert not (folder / JOURNAL).exists()
    # All that was finished but for the three torn lines was taken over.
    assert record_of(folder)["resumed_items"] == 3 + 19 + 0 + 24
    assert "46 items from the journal" in said
    assert "1 torn or damaged lines" in said


def test_ctrl_c_keeps_what_is_finished(
    place: tuple[Path, dict[str, Any]],
    built: tuple[Path, dict[str, Any], dict[str, bytes]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, _ = place
    awake = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    said = infer(folder, awake + STOPPED.format(at=30, share=1.0, signal="SIGINT"), status=130)
    assert "Traceback" not in said and "dvc repro" in said
    run_here(folder, monkeypatch)
    assert record_of(folder)["resumed_items"] == 30
    assert output_of(folder) == built[2]


def test_torn_and_damaged_lines_are_dropped_and_other_keys_are_not_found(tmp_path: Path) -> None:
    path = tmp_path / "a/journal.jsonl"
    written = Journal(path)
    for item in range(4):
        written.note("mine", item, [[item, 7], "stop"])
    written.note("theirs", 0, [[9], "length"])
    lines = path.read_bytes().splitlines(keepends=True)
    assert Journal(path).finished("mine") == {item: [[item, 7], "stop"] for item in range(4)}
    damaged = lines[1].replace(b" 7]", b" 8]")
    assert damaged != lines[1]
    path.write_bytes(lines[0] + damaged + b"\xff\n" + lines[2] + lines[4] + lines[3][:-5])
    found = Journal(path)
    assert found.dropped == 3
    assert set(found.finished("mine")) == {0, 2}
    assert found.finished("theirs") == {0: [[9], "length"]}
    assert found.finished("nobody's") == {}
    # The next line does not hang on to the torn one.
    found.note("mine", 3, [[1], "stop"])
    assert set(Journal(path).finished("mine")) == {0, 2, 3}
    found.remove()
    assert not path.exists()


def test_every_cut_and_every_changed_byte_of_a_line_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    Journal(path).note("k", 12, [[-0.125, -3.5], 0.25])
    whole = path.read_bytes()
    assert Journal(path).finished("k") == {12: [[-0.125, -3.5], 0.25]}
    for place in range(len(whole)):
        path.write_bytes(whole[:place])
        assert Journal(path).finished("k") == {}
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert Journal(path).finished("k") == {}


def test_a_key_is_of_weights_prompts_settings_and_code(
    place: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, params = place
    onnx = folder / "models/onnx/tiny_llama/base"
    part = Answers("answers", [[1, 2], [3]], frozenset([2]), ["a", "b"], 16)
    choice, settings = Choice(CPU, "tree"), settings_of(params)
    weights = folder_digest(onnx)
    keys = [part_key(part, weights, choice, settings)]

    def key_of(other: Answers = part, digest: str = weights, on: Choice = choice, **changed: Any) -> None:
        keys.append(part_key(other, digest, on, settings_of(params, **changed)))

    copied = tmp_path / "onnx"
    shutil.copytree(onnx, copied)
    assert folder_digest(copied) == weights
    data = np.memmap(copied / "model.safetensors", np.uint8, mode="r+")
    data[len(data) // 2] ^= 1
    data.flush()
    key_of(digest=folder_digest(copied))
    key_of(Answers("answers", [[1], [2, 3]], part.stop, part.titles, 16))
    key_of(Answers("answers", [[1, 2], [4]], part.stop, part.titles, 16))
    key_of(Answers("answers", part.items, frozenset([5]), part.titles, 16))
    key_of(Answers("answers", part.items, part.stop, part.titles, 5))
    key_of(on=Choice(CPU, "plain"))
    for sampling in (Sampling(0.5, 0), Sampling(0.5, 1)):
        key_of(replace(part, sampling=sampling))
    shutil.copytree(journal_module.CODE, tmp_path / "code", ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / "code/gqa/prefix_tree.py").open("a", encoding="utf-8") as code:
        code.write("# changed\n")
    with monkeypatch.context() as patch:
        patch.setattr(journal_module, "CODE", tmp_path / "code")
        key_of()
    assert len(set(keys)) == len(keys)
    # Who runs an item is no part of its result, and on the CPU neither is what runs beside it.
    key_of(processes=3, cluster="auto", pass_tokens=30, rows_per_batch=2)
    assert keys[-1] == keys[0]
    gpu = Choice(CUDA, "plain")
    on_gpu = [part_key(part, weights, gpu, settings_of(params, rows_per_batch=rows)) for rows in (2, 3)]
    assert len({*keys, *on_gpu}) == len(keys) + 1


def test_a_journal_of_other_weights_is_not_used(
    place: tuple[Path, dict[str, Any]], built: tuple[Path, dict[str, Any], dict[str, bytes]], tmp_path: Path
) -> None:
    folder, _ = place
    infer(folder, STOPPED.format(at=40, share=1.0, signal="SIGKILL"), status=-9)
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    change_numbers(other / "models/onnx/tiny_llama/base", lambda _, tensor: tensor * np.float32(1.01))
    infer(other)
    assert record_of(other)["resumed_items"] == 0
    assert output_of(other) != built[2]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of a file")
def test_a_journal_that_cannot_grow_is_one_sentence_and_keeps_what_it_has(
    place: tuple[Path, dict[str, Any]], built: tuple[Path, dict[str, Any], dict[str, bytes]]
) -> None:
    folder, _ = place
    # The system takes part of the line that crosses the limit, as a full disk does.
    limit = "import resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    limit += "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n"
    said = infer(folder, limit, status=1)
    assert "No space left on device" in said and "Traceback" not in said
    assert (folder / JOURNAL).stat().st_size == 2000
    assert not (folder / OUTPUT).exists()
    again = infer(folder)
    assert "1 torn or damaged lines" in again
    assert record_of(folder)["resumed_items"] > 0
    assert output_of(folder) == built[2]


@pytest.mark.parametrize("attention", ["grouped_query", "plain"])
def test_a_provider_error_names_its_items_and_keeps_the_others(
    place: tuple[Path, dict[str, Any]], attention: str
) -> None:
    folder, params = place
    onnx = folder / "models/onnx/tiny_llama/base"
    session = Tree(onnx, CPU) if attention == "grouped_query" else Plain(onnx, CPU)
    settings = settings_of(params, pass_tokens=4, rows_per_batch=1)
    # Token 70,000 is none of the model's 600: ONNX Runtime refuses to look it up.
    part = Answers("answers", [[5, 6, 7, 8], [5, 70_000, 9]], frozenset([2]), ["the item one", "the item two"], 16)
    done: dict[int, Any] = {}
    with pytest.raises(PipelineError, match=r"ONNX Runtime .* `answers`, found on the item two: .*kept") as raised:
        run_items(session, part, [0, 1], Budget.of(settings), Hooks(lambda _: None, done.__setitem__, print))
    assert "\n" not in str(raised.value)
    assert attention == "grouped_query" or set(done) == {0}


def test_a_provider_error_names_the_prompt_that_came_last_to_rows_that_ran_well(
    place: tuple[Path, dict[str, Any]],
) -> None:
    folder, params = place
    prompts = [[5, 6, 7 + n, 8] for n in range(12)] + [[6, 70_000, 9]]
    part = Answers("answers", prompts, frozenset([2]), [f"the item {n}" for n in range(13)], 16)
    session = Tree(folder / "models/onnx/tiny_llama/base", CPU)
    with pytest.raises(PipelineError, match=r"found on the item 12, .* and 8 more: "):
        run_items(session, part, range(13), Budget.of(settings_of(params, pass_tokens=4, rows_per_batch=64)), Hooks())


class Listening(Here):
    """Notes which items it is asked to run."""

    ran: list[int]

    def run(self, part: Part, wanted: Sequence[int], hooks: Hooks) -> None:
        """See Runner."""
        self.ran = list(wanted)
        super().run(part, wanted, hooks)


@pytest.mark.parametrize("attention", ["grouped_query", "plain"])
def test_equal_items_run_once_and_get_equal_results(place: tuple[Path, dict[str, Any]], attention: str) -> None:
    folder, params = place
    settings = settings_of(params, attention=attention)
    runner = Listening.opened(folder / "models/onnx/tiny_llama/base", settings)
    first, second = (Question([5, 6, n], [[5, 6, n, 8], [5, 6, n, 9, 10]]) for n in (7, 11))
    other_option = Question([5, 6, 7], [[5, 6, 7, 8], [5, 6, 7, 9, 11]])
    titles = ["the item"] * 4
    for part in (
        Questions("letter", [first, second, other_option, first], titles),
        Answers("answers", [[5, 6, 7], [5, 6, 11], [5, 6], [5, 6, 7]], frozenset([2]), titles, 16),
    ):
        found = ResumedRun(folder, settings, runner).results(part, print, lambda _: None)
        assert runner.ran == [0, 1, 2]
        assert found[3] == found[0] != found[1]


@pytest.mark.parametrize("attention", ["grouped_query", "plain"])
@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("Error in execution: Failed to allocate memory for requested buffer"),
        # ONNX Runtime's own allocator, at the limit of `cuda_options`.
        RuntimeError("Error in execution: Available memory of 512 is smaller than requested bytes of 4096"),
    ],
)
def test_when_memory_runs_out_less_runs_at_once_to_the_same_bytes(
    place: tuple[Path, dict[str, Any]],
    built: tuple[Path, dict[str, Any], dict[str, bytes]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    attention: str,
    error: Exception,
) -> None:
    folder, params = place
    write_params(folder, params, attention=attention, rows_per_batch=8)
    run_here(folder, monkeypatch)
    undisturbed = output_of(folder)
    capsys.readouterr()
    if attention == "grouped_query":
        run = TreeSession._run

        def small_run(self: Any, cache: Any, tokens: Any, *others: Any) -> Any:
            if tokens.size > 24:
                raise error
            return run(self, cache, tokens, *others)

        monkeypatch.setattr(TreeSession, "_run", small_run)
    else:
        run = PlainSession.run

        def small_run(self: Any, tokens: Any, *others: Any) -> Any:
            if len(tokens) > 2:
                raise error
            return run(self, tokens, *others)

        monkeypatch.setattr(PlainSession, "run", small_run)
    run_here(folder, monkeypatch)
    said = capsys.readouterr().out
    assert said.count("memory ran out") >= 3
    assert output_of(folder) == undisturbed


def test_an_item_that_does_not_fit_alone_is_one_sentence(
    place: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, params = place
    session = Tree(folder / "models/onnx/tiny_llama/base", CPU)

    def never(*others: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(TreeSession, "_run", never)
    part = Answers("answers", [[5, 6, 7]], frozenset([2]), ["the item one"], 16)
    with pytest.raises(PipelineError, match="Expected the item one to fit in memory alone"):
        run_items(session, part, [0], Budget.of(settings_of(params)), Hooks())


def change(folder: Path, kind: str, text: str) -> None:
    """Replace the text of the first item of a kind."""
    path = folder / f"data/benchmarks/{kind}.jsonl"
    first, *others = read_rows(path, PROMPT)
    write_rows(path, [first.model_copy(update={"text": text}), *others])


@pytest.mark.parametrize(
    ("kind", "text", "changed", "words"),
    [
        ("harmful", " \n", {}, "found none in the harmful item harmful0 about 'g'"),
        ("choice", "", {}, "found none in the choice item choice100 about 'g'"),
        ("benign", "word " * 2100, {}, "the benign item benign16 about 'g'"),
        ("choice", "word " * 2100, {}, "the choice item choice100 about 'g'"),
        ("benign", "a word", {"generation_tokens": 20}, "Expected run.generation_tokens to hold one item at least"),
        ("choice", "a word", {"scoring_tokens": 3, "attention": "plain"}, "Expected run.scoring_tokens to hold one"),
    ],
)
def test_bad_items_are_named(
    place: tuple[Path, dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    text: str,
    changed: dict[str, Any],
    words: str,
) -> None:
    folder, params = place
    change(folder, kind, text)
    write_params(folder, params, **changed)
    with pytest.raises(PipelineError) as raised:
        run_here(folder, monkeypatch)
    assert words in str(raised.value)
    assert not (folder / OUTPUT).exists()


@pytest.mark.parametrize("attention", ["grouped_query", "plain"])
def test_truncated_on_the_left_a_prompt_is_its_last_tokens_and_named(
    place: tuple[Path, dict[str, Any]],
    built: tuple[Path, dict[str, Any], dict[str, bytes]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    attention: str,
) -> None:
    folder, params = place
    change(folder, "harmful", "word " * 2100)
    change(folder, "choice", "word " * 2100)
    write_params(folder, params, truncate="left", attention=attention)
    run_here(folder, monkeypatch)
    record = record_of(folder)
    # The question is asked in both formats.
    assert (record["truncated_prompts"], record["truncated_questions"]) == (["harmful0"], ["choice100"] * 2)
    assert "3 truncated on the left, named in runs/tiny_llama/base.json" in " ".join(capsys.readouterr().out.split())
    if attention == "grouped_query":
        answers = (folder / OUTPUT / "responses.jsonl").read_text(encoding="utf-8").splitlines()
        before = built[2]["responses.jsonl"].decode().splitlines()
        assert answers[2:] == before[2:] and len(answers) == len(before)


def test_truncation_takes_the_same_from_all_options() -> None:
    from safety_tax.engine.item_checks import without_beginning

    question = Question([1, 2, 3, 4], [[1, 2, 3, 4, 9, 9], [1, 2, 3, 4, 8]])
    assert without_beginning(question, 6) == question
    assert without_beginning(question, 4) == Question([3, 4], [[3, 4, 9, 9], [3, 4, 8]])
    # All options after each other: 4 shared, 1 and 0 fed, 1 that nobody sees.
    assert without_beginning(question, 6, together=True) == question
    assert without_beginning(question, 5, together=True) == Question([2, 3, 4], [[2, 3, 4, 9, 9], [2, 3, 4, 8]])
    # What is scored stays whole, and the context keeps a token to score it after.
    assert without_beginning(question, 1) == Question([4], [[4, 9, 9], [4, 8]])


def test_the_records_are_json(place: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _ = place
    run_here(folder, monkeypatch)
    assert json.dumps(record_of(folder))
    rows = [len((folder / OUTPUT / name).read_bytes().splitlines()) for name in ("responses.jsonl", "choices.jsonl")]
    assert rows == [1 + 26, 1 + 30] and ITEMS == 26 + 30 + 15
