"""One set of processor instructions for whatever computes a donor."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from safety_tax.donors import vector_instructions as instructions

CHOSEN = ("ATEN_CPU_CAPABILITY", "MKL_CBWR")


@pytest.mark.parametrize(
    ("command", "leaves"),
    [
        ("tune smollm2_135m safety", True),
        ("tune mistral_7b safety", False),  # over a bfloat16 base
        ("curvature smollm2_135m", True),
    ],
)
def test_float32_is_computed_without_avx_512(command: str, leaves: bool, tmp_path: Path) -> None:
    for name in ("params.yaml", "dvc.yaml"):
        content = (ROOT / name).read_text(encoding="utf-8")
        (tmp_path / name).write_text(content.replace("forms: []", "forms: [kfac]"), encoding="utf-8")
    # The stage stops at once, since there is no model; torch then tells what it has taken.
    script = (
        f"import os, runpy, sys, torch; sys.argv = {command.split()}\n"
        f"try: runpy.run_module('stages.{command.split()[0]}', run_name='__main__')\n"
        "except (Exception, SystemExit): pass\n"
        "print(os.environ.get('ATEN_CPU_CAPABILITY'), torch.backends.cpu.get_cpu_capability())"
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
    chosen, taken = done.stdout.split()[-2:]
    has_avx2 = instructions.PROCESSOR.exists() and " avx2 " in instructions.PROCESSOR.read_text(encoding="utf-8")
    assert (chosen == "avx2") == (leaves and has_avx2), done.stderr
    assert not (leaves and taken == "AVX512")


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
