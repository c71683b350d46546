"""What only a GPU can show: `python -m pytest -m gpu`."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import workplace
from conftest import EXPORT, ROOT
from engines import Limits, answered, scored
from test_export import exported
from test_inference import RUN

from safety_tax.checkup.machine import check_provider, gpu_memory
from safety_tax.core.errors import PipelineError
from safety_tax.engine.batches import right_padded
from safety_tax.engine.devices import DeviceMemory, free_gpu_memory
from safety_tax.engine.gate import require_parity
from safety_tax.engine.gqa.rows import Rows
from safety_tax.engine.opening import open_engine
from safety_tax.engine.plain.engine import Plain
from safety_tax.engine.plain.session import PlainSession
from safety_tax.engine.protocol import Question
from safety_tax.engine.session import CPU, CUDA, choose_provider, cuda_problem
from safety_tax.onnx.parity import gate_difference, pytorch_logits

PROBLEM = cuda_problem()
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(PROBLEM is not None, reason=f"no CUDA session: {PROBLEM}")]
PROMPT = list(range(20, 60))


def log_softmax(logits: np.ndarray) -> np.ndarray:
    wide = logits.astype(np.float64)
    return wide - np.logaddexp.reduce(wide, axis=-1, keepdims=True)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("name", ["tiny_llama", "tiny_mistral", "tiny_qwen2"])
def test_a_gpu_agrees_with_pytorch(name: str, dtype: str, tiny_models: dict[str, Path], tmp_path: Path) -> None:
    session = PlainSession(exported(tiny_models[name], tmp_path / "onnx", dtype), CUDA)
    tokens = np.array([PROMPT], np.int64)
    places = np.arange(len(PROMPT))[None]
    found = session.run(tokens, np.ones_like(tokens), places, places, session.empty_past(1)).logits[0]
    expected = pytorch_logits(tiny_models[name], [PROMPT])[0]
    assert np.abs(log_softmax(found) - log_softmax(expected)).max() < EXPORT.tolerance(dtype)
    session.require_provider()


def test_a_gpu_session_is_no_cpu_session(tiny_models: dict[str, Path], tmp_path: Path) -> None:
    session = PlainSession(exported(tiny_models["tiny_llama"], tmp_path / "onnx"), CUDA)
    session.provider = CPU
    with pytest.raises(PipelineError, match=f"to run on {CPU}, found it on {CUDA}"):
        session.require_provider()


def test_auto_and_cuda_choose_the_gpu() -> None:
    assert choose_provider("auto") == choose_provider("cuda") == CUDA
    assert choose_provider("cpu") == CPU


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_past_key_values_stay_on_the_gpu_and_are_read_there(
    dtype: str, tiny_models: dict[str, Path], tmp_path: Path
) -> None:
    """Two rows of a batch, one of them padded, go on from what was bound: as PyTorch does each alone."""
    session = PlainSession(exported(tiny_models["tiny_llama"], tmp_path / "onnx", dtype), CUDA)
    beginnings, following = [PROMPT[:20], PROMPT[5:16]], np.array([PROMPT[20:30], PROMPT[16:26]], np.int64)
    tokens, mask = right_padded(beginnings)
    places = np.broadcast_to(np.arange(tokens.shape[1]), tokens.shape)
    past = session.run(tokens, mask, places, places, session.empty_past(2)).past
    assert {value.device_name() for value in past} == {"cuda"}
    kept = session.rows_of(past, np.array([1, 0], np.int64))
    assert {value.device_name() for value in kept} == {"cuda"}
    columns = np.broadcast_to(np.arange(10), following.shape)
    positions = np.array([len(row) for row in beginnings])[::-1, None] + columns
    whole = np.concatenate([mask[::-1], np.ones_like(following)], axis=1)
    output = session.run(following[::-1], whole, positions, columns, kept)
    assert {value.device_name() for value in output.past} == {"cuda"}
    expected = pytorch_logits(
        tiny_models["tiny_llama"],
        [[*start, *more] for start, more in zip(beginnings, following.tolist(), strict=True)][::-1],
    )
    for found, logits in zip(output.logits, expected, strict=True):
        assert np.abs(log_softmax(found) - log_softmax(logits[-10:])).max() < EXPORT.tolerance(dtype)
    session.require_provider()


def test_the_token_budget_fits_the_free_memory(tiny_models: dict[str, Path], tmp_path: Path) -> None:
    folder = exported(tiny_models["tiny_llama"], tmp_path / "onnx", "float16")
    session = PlainSession(folder, CUDA)
    assert session.token_budget(1) == 1
    most = session.token_budget(10**15)
    taken = torch.empty(torch.cuda.mem_get_info()[0] // 2, dtype=torch.uint8, device="cuda")
    assert 0 < PlainSession(folder, CUDA).token_budget(10**15) < 0.6 * most
    assert session.token_budget(10**15) == most  # what it was when the session began
    del taken


def test_answers_in_half_precision_race_transformers_on_the_same_prompts(
    tiny_models: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workplace.build(tmp_path, tiny_models["tiny_llama"])
    shutil.copytree(tiny_models["tiny_llama"], tmp_path / "models/base/tiny_llama")
    # The benchmark, its figures kept here: those of the default model are `python -m tests.benchmarks.inference answers
    # --provider cuda`, after `dvc repro`.
    code = "from pathlib import Path; from tests.benchmarks import inference, results; "
    code += "results.FOLDER = Path.cwd(); inference.main()"
    command = [
        sys.executable,
        "-c",
        code,
        "answers",
        "--provider",
        "cuda",
        "--model",
        "tiny_llama",
        "--rows",
        "4",
        "12",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stdout + result.stderr
    with capsys.disabled():
        print(f"\n{result.stdout}")
    found = json.loads((tmp_path / "inference.json").read_text(encoding="utf-8"))["answers_cuda"]
    assert {way.split(",")[0] for way in found["ways"]} == {"ours", "transformers"}


def test_a_gpu_gives_the_cpus_scores_and_answers(tiny_models: dict[str, Path], tmp_path: Path) -> None:
    folder = exported(tiny_models["tiny_qwen2"], tmp_path / "onnx")
    on_cpu, on_gpu = Plain(folder, CPU), Plain(folder, CUDA)
    prompts = [PROMPT, PROMPT[3:9], PROMPT[10:30]]
    limits = Limits(max_new_tokens=6, tokens=60, rows=2)
    assert answered(on_gpu, prompts, frozenset([2]), limits) == answered(on_cpu, prompts, frozenset([2]), limits)
    questions = [Question(PROMPT[:n], [[*PROMPT[:n], *more] for more in ([7], [8, 9], [10, 11, 12])]) for n in (9, 17)]
    for found, expected in zip(scored(on_gpu, questions, 40, 4), scored(on_cpu, questions, 40, 4), strict=True):
        np.testing.assert_allclose(found.logprobs, expected.logprobs, atol=EXPORT.parity_tolerance)
        assert found.first_token_mass == pytest.approx(expected.first_token_mass, abs=EXPORT.parity_tolerance)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", ["tiny_llama", "tiny_mistral", "tiny_qwen2"])
def test_rows_on_a_gpu_pass_their_gate_and_answer_as_the_cpu_does(
    name: str, dtype: str, tiny_models: dict[str, Path], tmp_path: Path
) -> None:
    folder = exported(tiny_models[name], tmp_path / "onnx", dtype)
    prompts = [PROMPT, PROMPT[3:9], PROMPT[10:30], PROMPT[:25]]
    gate_difference(tiny_models[name], folder, prompts, EXPORT.tolerance_on_gpu(dtype))
    engine = open_engine(folder, RUN.model_copy(update={"provider": "cuda"}))
    assert engine.choice == (CUDA, "rows")
    difference = require_parity(engine)
    assert difference is not None and 0 < difference < EXPORT.tolerance_on_gpu(dtype)
    limits = Limits(max_new_tokens=12, tokens=120, rows=3)
    found = answered(engine, prompts, frozenset([2]), limits)
    assert answered(engine, prompts, frozenset([2]), limits) == found
    expected = answered(Plain(folder, CPU), prompts, frozenset([2]), limits)
    # Rounding can choose another token where two are nearly equal; from there on the answers are others.
    alike = [one.tokens[:3] == other.tokens[:3] for one, other in zip(found, expected, strict=True)]
    assert sum(alike) >= 3
    engine.require_provider()


def test_logits_stay_on_the_gpu_and_buffers_are_freed(tiny_models: dict[str, Path], tmp_path: Path) -> None:
    engine = Rows(exported(tiny_models["tiny_llama"], tmp_path / "onnx", "bfloat16"), CUDA)
    outputs = {entry.name for entry in engine.session._session.get_outputs()}
    assert {name for name in outputs if not name.startswith("present.")} == {"chosen", "best", "logprobs"}
    before = free_gpu_memory() or 0
    taken = DeviceMemory(1 << 30)
    assert before - (free_gpu_memory() or 0) >= 1 << 30
    taken.free()
    assert (free_gpu_memory() or 0) >= before - (1 << 24)
    with pytest.raises(MemoryError, match="out of memory"):
        DeviceMemory(1 << 45)


def test_the_card_kit_runs_on_a_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    from tests.card.__main__ import main

    main(["all", "--models", "tiny"])
    assert "failed" not in capsys.readouterr().out


def test_the_doctor_sees_the_gpu_and_its_libraries() -> None:
    found = {finding.what: finding.found for finding in check_provider("cuda")}
    assert "a session starts" in found["inference"]
    assert "GB" in found["GPU 0"]
    assert found["CUDA"] != "not found" != found["cuDNN"]
    assert (gpu_memory() or 0) > 10**9
