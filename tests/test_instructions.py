"""One set of processor instructions for whatever computes a donor."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from stages.lib import instructions

CHOSEN = ("ATEN_CPU_CAPABILITY", "MKL_CBWR")


@pytest.mark.parametrize("stage", ["tune", "curvature"])
def test_a_stage_that_computes_with_torch_leaves_avx_512_alone(stage: str, tmp_path: Path) -> None:
    # The stage stops at once, since there is no params.yaml; torch then tells what it has taken.
    script = (
        f"import runpy, sys, torch; sys.argv = ['{stage}', 'none', 'none'][: {3 if stage == 'tune' else 2}]\n"
        f"try: runpy.run_module('stages.{stage}', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "print(torch.backends.cpu.get_cpu_capability())"
    )
    environment = {name: value for name, value in os.environ.items() if name not in CHOSEN}
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "params.yaml" in done.stderr
    assert done.stdout.strip() != "AVX512"


def test_a_users_own_choice_and_an_old_processor_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instructions, "PROCESSOR", tmp_path / "cpuinfo")
    for name in CHOSEN:
        monkeypatch.delenv(name, raising=False)
    instructions.use_avx2()  # no such file: not Linux
    (tmp_path / "cpuinfo").write_text("flags\t\t: fpu sse4_2 avx\n", encoding="utf-8")
    instructions.use_avx2()
    assert not any(name in os.environ for name in CHOSEN)
    (tmp_path / "cpuinfo").write_text("flags\t\t: fpu avx avx2 avx512f\n", encoding="utf-8")
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    instructions.use_avx2()
    assert [os.environ.pop(name) for name in CHOSEN] == ["avx2", "COMPATIBLE"]
