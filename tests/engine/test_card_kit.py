"""The card kit on the CPU, so that nothing but the card is new on the day one is at hand."""

import re
import subprocess
import sys

import pytest
from conftest import ROOT
from onnx import TensorProto

from tests.card.__main__ import main
from tests.card.measures import PARTS
from tests.card.models import MODELS

# No card has these, and the kit must not want them.
WITHOUT = ("torch", "transformers", "optimum", "pydantic", "datasets", "yaml", "rich", "huggingface_hub", "safetensors")


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_every_part_of_the_kit_runs_at_a_tiny_shape(dtype: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["open", "parity", "prefill", "decode", "score", "--models", "tiny", "--provider", "cpu", "--dtype", dtype])
    table = capsys.readouterr().out
    assert "failed" not in table
    told = {line.split(" | ")[1] for line in table.splitlines() if line.startswith("| tiny")}
    assert told == PARTS.keys() - {"memory"}
    differences = [float(number) for number in re.findall(r"([0-9.e-]+) nats", table)]
    assert len(differences) == 2 and max(differences) < 0.05
    assert (max(differences) == 0) == (dtype == "float32")
    for speed in ("tokens/s", "questions/s", "of the matrix rate", "of the copy bandwidth"):
        assert speed in table


def test_the_kit_needs_numpy_onnx_and_onnx_runtime_alone() -> None:
    blocked = f"import sys\nfor name in {WITHOUT!r}: sys.modules[name] = None\n"
    arguments = ["memory", "--models", "tiny", "--provider", "cpu", "--dtype", "float32"]
    run = f"from tests.card.__main__ import main; main({arguments})"
    result = subprocess.run(
        [sys.executable, "-c", blocked + run], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "4 answers of 8 tokens" in result.stdout
    assert "| transformers.generate | not installed |" in result.stdout


def test_a_part_that_fails_says_why_and_the_others_go_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(card: object) -> None:
        raise RuntimeError("no such kernel\nand more")

    monkeypatch.setitem(PARTS, "prefill", broken)  # type: ignore[arg-type]
    with pytest.raises(SystemExit, match="1 of the parts failed: tiny prefill"):
        main(["prefill", "score", "--models", "tiny", "--provider", "cpu", "--dtype", "float32"])
    table = capsys.readouterr().out
    assert "| tiny | prefill | failed | no such kernel |" in table and "questions/s" in table


@pytest.mark.parametrize(("name", "billions"), [("1B", 1.24), ("8B", 8.03), ("14B", 14.77)])
def test_the_shapes_are_those_of_the_real_models(name: str, billions: float) -> None:
    """As their model cards say."""
    model = MODELS[name]
    total = sum(shape[0] * (shape[1] if len(shape) > 1 else 1) for shape in model.shapes().values())
    assert total / 1e9 == pytest.approx(billions, abs=0.006)
    assert model.decoder.heads * model.decoder.head_size == model.decoder.width
    assert TensorProto.BFLOAT16 and not model.decoder.heads % model.decoder.kv_heads
