"""Who runs an item, with whom and in how many passes changes no bit of its result."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import workplace
from conftest import EXPORT, ROOT
from engines import Limits, answered, scored
from test_inference import prompts_of, questions
from transformers import PreTrainedTokenizerFast
from workplace import JOURNAL, OUTPUT, infer, output_of, record_of, write_params

from safety_tax.core.errors import PipelineError
from safety_tax.core.prompting import continuation_prompt, letter_prompt, letters
from safety_tax.core.rows import GENERATED, Response, read_rows
from safety_tax.dispatch.cluster import Weights, _own_folder, _run_slice
from safety_tax.dispatch.journal import folder_digest
from safety_tax.dispatch.slices import slices
from safety_tax.engine.gqa.tree import Tree
from safety_tax.engine.opening import engine_of
from safety_tax.engine.plain.engine import Plain
from safety_tax.engine.protocol import Answers, Budget, Choice, Question, Questions, Sampling
from safety_tax.engine.running import costs
from safety_tax.engine.session import CPU
from safety_tax.onnx.exporting import export_base
from safety_tax.settings.stages import Run

STOP = frozenset([2])


@pytest.fixture(scope="module")
def onnx(tiny_models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("onnx")
    export_base(tiny_models["tiny_llama"], "float32", EXPORT, folder)
    return folder


def mixed_questions(tokenizer: PreTrainedTokenizerFast) -> list[Question]:
    """Some with a long beginning that they share, as after shots; some alone; options of one token and of several."""

    def encode(text: str) -> list[int]:
        return tokenizer(text)["input_ids"]

    asked = questions(12)
    solved = "".join(letter_prompt(question) + " A\n\n" for question in asked[:3])
    return [
        *(Question.encoded(solved + letter_prompt(question), letters(question), encode) for question in asked[3:]),
        *(Question.encoded(continuation_prompt(q), [f" {c}" for c in q.choices or []], encode) for q in asked),
    ]


def test_any_selection_in_any_parts_gives_the_same_answers_to_the_bit(
    onnx: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    prompts = prompts_of(tokenizer, 17) + prompts_of(tokenizer, 2)
    limits = Limits(12, 4096, 6)
    for temperature in (0.0, 1.0):
        drawn = Sampling(temperature, 3)
        grouped = answered(Tree(onnx, CPU), prompts, STOP, limits, 100, drawn)
        plain = answered(Plain(onnx, CPU), prompts, STOP, limits, sampling=drawn)
        for wanted in ([0], [5, 6, 11], range(1, 19, 2), range(19)):
            for parts in (1, 2, 64):
                session = Tree(onnx, CPU)
                found = answered(session, prompts, STOP, limits, 100, drawn, wanted=wanted, parts=parts)
                assert found == [grouped[item] for item in wanted]
                found = answered(Plain(onnx, CPU), prompts, STOP, limits, sampling=drawn, wanted=wanted, parts=parts)
                assert found == [plain[item] for item in wanted]


def test_any_selection_in_any_parts_gives_the_same_scores_to_the_bit(
    onnx: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    asked = mixed_questions(tokenizer)
    grouped, plain = Tree(onnx, CPU), Plain(onnx, CPU)
    of_grouped = scored(Tree(onnx, CPU), asked, 2000)
    for tokens in (60, 300):
        of_plain = scored(plain, asked, tokens, 6)
        for wanted in ([0], [20, 3, 11], range(1, 21, 2), range(21)):
            for parts in (1, 2, 64):
                found = scored(grouped, asked, tokens, wanted=wanted, parts=parts)
                assert found == [of_grouped[item] for item in sorted(wanted)]
                found = scored(plain, asked, tokens, 6, wanted=wanted, parts=parts)
                assert found == [of_plain[item] for item in sorted(wanted)]


def test_slices_hold_every_item_once_and_whole_batches_of_about_equal_cost(tokenizer: PreTrainedTokenizerFast) -> None:
    budget = Budget(32768, 3, 100, 4096)
    asked = mixed_questions(tokenizer)
    prompts = prompts_of(tokenizer, 30)
    for part in (Questions("letter", asked, [""] * 21), Answers("answers", prompts, STOP, [""] * 30, 48)):
        for choice in (Choice(CPU, "tree"), Choice(CPU, "plain"), Choice(CPU, "rows")):
            groups = engine_of(choice).plan(part, budget)
            assert sorted(item for group in groups for item in group) == list(range(len(part.items)))
            for count in (1, 2, 3, 100):
                cut = slices(part, range(len(part.items)), choice, budget, count)
                assert sorted(item for piece in cut for item in piece) == list(range(len(part.items)))
                assert len(cut) <= count
                assert all(set(group) <= set(piece) or not set(group) & set(piece) for group in groups for piece in cut)
                dearest, loads = max(costs(part, groups)), [sum(costs(part, [piece])) for piece in cut]
                assert count == 100 or max(loads) - min(loads) <= 2 * dearest
            assert slices(part, [4], choice, budget, 3) == [[4]]
            assert slices(part, [], choice, budget, 3) == []


@pytest.fixture(scope="module")
def built(
    tiny_models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any], dict[str, dict[str, bytes]]]:
    """A folder, its params, and what one process writes with each of the two graphs."""
    folder = tmp_path_factory.mktemp("workplace")
    params = workplace.build(folder, tiny_models["tiny_llama"])
    expected = {}
    for attention in ("plain", "grouped_query"):
        write_params(folder, params, attention=attention, processes=1)
        infer(folder)
        expected[attention] = output_of(folder)
        shutil.rmtree(folder / "data/responses")
    return folder, params, expected


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 3])
@pytest.mark.parametrize("attention", ["grouped_query", "plain"])
def test_any_number_of_processes_writes_the_same_bytes(
    built: tuple[Path, dict[str, Any], dict[str, dict[str, bytes]]], processes: int, attention: str
) -> None:
    folder, params, expected = built
    write_params(folder, params, processes=processes, attention=attention)
    said = infer(folder)
    assert f"{processes} processes" in said
    assert output_of(folder) == expected[attention]
    assert record_of(folder)["processes"] == processes
    assert not (folder / JOURNAL).exists()
    shutil.rmtree(folder / "data/responses")


# A worker that dies when it has sent result number {at}.
DYING = """
import os, signal, safety_tax.dispatch.processes as processes
whole, count = processes._Telling.finished, 0
def finished(self, item, result):
    global count
    count += 1
    whole(self, item, result)
    if count == {at}:
        os.kill(os.getpid(), signal.SIGKILL)
processes._Telling.finished = finished
"""


@pytest.mark.slow
def test_a_worker_that_dies_is_a_sentence_and_what_was_finished_is_kept(
    built: tuple[Path, dict[str, Any], dict[str, dict[str, bytes]]],
) -> None:
    folder, params, expected = built
    write_params(folder, params, processes=2)
    # A spawned process runs the script's first lines again, and so patches itself.
    said = infer(folder, DYING.format(at=9), status=1)
    assert said.count("ended by signal 9") == 1 and "Traceback" not in said
    assert not (folder / OUTPUT).exists()
    write_params(folder, params, processes=1)
    infer(folder)
    assert record_of(folder)["resumed_items"] >= 9
    assert output_of(folder) == expected["grouped_query"]
    shutil.rmtree(folder / "data/responses")


def test_workers_end_with_a_parent_that_is_killed(
    built: tuple[Path, dict[str, Any], dict[str, dict[str, bytes]]],
) -> None:
    folder, params, _ = built
    write_params(folder, params, processes=2, max_new_tokens=dict.fromkeys(GENERATED, 400))
    running = subprocess.Popen(
        [sys.executable, "-m", "stages.infer", "tiny_llama", "base"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
    )
    while not (folder / JOURNAL).exists():
        assert running.poll() is None
        time.sleep(0.01)
    workers = psutil.Process(running.pid).children()
    assert len([worker for worker in workers if "spawn_main" in " ".join(worker.cmdline())]) == 2
    running.send_signal(signal.SIGKILL)
    running.wait()
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert alive == []
    shutil.rmtree(folder / "runs")


def test_a_ray_task_that_fails_gives_what_it_had_finished(onnx: Path) -> None:
    settings = Run(**workplace.tiny_params({})["run"] | {"pass_tokens": 4, "rows_per_batch": 1})
    # Token 70,000 is none of the model's 600.
    part = Answers("answers", [[5, 6, 7, 8], [5, 70_000, 9]], frozenset([2]), ["the item one", "the item two"], 16)
    weights = Weights(onnx, folder_digest(onnx), {})
    kind, (results, _, _, failure) = _run_slice(weights, part, [0, 1], settings, Choice(CPU, "tree"))
    assert (kind, [item for item, _ in results]) == ("results", [0])
    assert "found on the item two: " in failure


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="Windows has no owners and rights of this kind")
def test_weights_of_a_ray_node_lie_where_their_user_alone_may_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = _own_folder()
    assert folder.parent == tmp_path and folder.stat().st_mode & 0o777 == 0o700
    assert _own_folder() == folder
    folder.chmod(0o777)
    with pytest.raises(PipelineError, match=r"only its user may enter, .* TMPDIR"):
        _own_folder()
    folder.rmdir()
    folder.touch(mode=0o600)
    with pytest.raises(PipelineError, match="only its user may enter"):
        _own_folder()
    folder.unlink()
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PipelineError, match="or a link"):
        _own_folder()


@pytest.mark.slow
def test_a_string_ends_answers_in_one_process_as_in_two(tiny_models: dict[str, Path], tmp_path: Path) -> None:
    params = workplace.build(tmp_path, tiny_models["tiny_llama"])
    infer(tmp_path)
    before = read_rows(tmp_path / OUTPUT / "responses.jsonl", Response)
    stop = next(word for word in ("the", "a", "e") if sum(word in response.text[1:] for response in before) > 3)
    params["catalog"]["tiny_llama"]["stop"] = [stop]
    outputs = []
    for processes in (1, 2):
        write_params(tmp_path, params, processes=processes)
        infer(tmp_path)
        outputs.append(output_of(tmp_path))
        after = read_rows(tmp_path / OUTPUT / "responses.jsonl", Response)
        assert [response.text for response in after] == [r.text.split(stop)[0].strip() for r in before]
        assert {r.finish_reason for r, old in zip(after, before, strict=True) if stop in old.text} == {"stop"}
    assert outputs[0] == outputs[1]
