"""What only a GPU can show: `python -m pytest -m gpu`."""

from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks.bandwidth import copy_bandwidth, decoding_bandwidth
from test_export import SETTINGS, exported

from stages.lib.errors import PipelineError
from stages.lib.inference.session import CPU, CUDA, ModelSession, cuda_problem
from stages.lib.parity import pytorch_logits

PROBLEM = cuda_problem()
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(PROBLEM is not None, reason=f"no CUDA session: {PROBLEM}")]
PROMPT = list(range(20, 60))


def log_softmax(logits: np.ndarray) -> np.ndarray:
    wide = logits.astype(np.float64)
    return wide - np.logaddexp.reduce(wide, axis=-1, keepdims=True)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("name", ["tiny_llama", "tiny_mistral", "tiny_qwen2"])
def test_a_gpu_agrees_with_pytorch(name: str, dtype: str, tiny_models: dict[str, Path], tmp_path: Path) -> None:
    session = ModelSession(exported(tiny_models[name], tmp_path / "onnx", dtype), CUDA)
    tokens = np.array([PROMPT], np.int64)
    places = np.arange(len(PROMPT))[None]
    found = session.run(tokens, np.ones_like(tokens), places, places, session.empty_past(1)).logits[0]
    expected = pytorch_logits(tiny_models[name], [PROMPT])[0]
    assert np.abs(log_softmax(found) - log_softmax(expected)).max() < SETTINGS.tolerance(dtype)
    session.require_provider()


def test_a_gpu_session_is_no_cpu_session(tiny_models: dict[str, Path], tmp_path: Path) -> None:
    session = ModelSession(exported(tiny_models["tiny_llama"], tmp_path / "onnx"), CUDA)
    session.provider = CPU
    with pytest.raises(PipelineError, match=f"to run on {CPU}, found it on {CUDA}"):
        session.require_provider()


def test_past_key_values_stay_on_the_gpu(tiny_models: dict[str, Path], tmp_path: Path) -> None:
    session = ModelSession(exported(tiny_models["tiny_llama"], tmp_path / "onnx", "float16"), CUDA)
    tokens = np.array([PROMPT], np.int64)
    places = np.arange(len(PROMPT))[None]
    past = session.run(tokens, np.ones_like(tokens), places, places, session.empty_past(1)).past
    assert {value.device_name() for value in past} == {"cuda"}
    twice = session.rows_of(past, np.zeros(2, np.int64))
    assert {value.device_name() for value in twice} == {"cuda"}
    assert all(np.array_equal(two.numpy()[1], one.numpy()[0]) for one, two in zip(past, twice, strict=True))


def test_the_token_budget_fits_the_free_memory(tiny_models: dict[str, Path], tmp_path: Path) -> None:
    session = ModelSession(exported(tiny_models["tiny_llama"], tmp_path / "onnx", "float16"), CUDA)
    assert session.token_budget(1) == 1
    most = session.token_budget(10**15)
    taken = torch.empty(torch.cuda.mem_get_info()[0] // 2, dtype=torch.uint8, device="cuda")
    assert 0 < session.token_budget(10**15) < 0.6 * most
    del taken


def test_steps_say_which_share_of_the_bandwidth_they_reach(
    tiny_models: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    session = ModelSession(exported(tiny_models["tiny_llama"], tmp_path / "onnx", "float16"), CUDA)
    tokens, used = decoding_bandwidth(session, 8, 32)
    copied = copy_bandwidth()
    with capsys.disabled():
        print(f"\n{tokens:.0f} tokens/s of a tiny model, {used / copied:.2%} of {copied / 1e9:.0f} GB/s")
    assert 0 < used < copied
