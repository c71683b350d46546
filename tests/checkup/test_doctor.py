"""What the doctor says of a machine and a Hub, in its own process."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import warm
import yaml
from conftest import ROOT, benign_rows, real_params
from hub_server import Fault, Hub, serving

from safety_tax.checkup.duration import inference_seconds, items_at_hand, load_of, stage_seconds, total
from safety_tax.checkup.machine import (
    check_disk,
    check_memory,
    check_provider,
    check_python,
    check_remote,
    cuda_libraries,
    dotted,
    gpu_memory,
    library_version,
)
from safety_tax.checkup.needs import (
    PROGRAM,
    curvature_bytes,
    disk_need,
    donor_disk_need,
    export_bytes,
    judge_disk_need,
    memory_needs,
    tuning_bytes,
)
from safety_tax.checkup.rates import Rates, measure
from safety_tax.checkup.shape import Shape, shape_of
from safety_tax.core.rows import KINDS
from safety_tax.engine.session import CPU
from safety_tax.params import validated
from safety_tax.settings.sources import HubSource
from safety_tax.settings.stages import JudgeModel

# The published configurations, as far as they tell a size.
LAYERS = {"num_attention_heads": 32, "num_key_value_heads": 8, "num_hidden_layers": 32, "hidden_size": 4096}
LAYERS |= {"intermediate_size": 14336, "tie_word_embeddings": False}
CONFIGS = {
    "mistral_7b": {**LAYERS, "model_type": "mistral", "vocab_size": 32000},
    "llama31_8b": {**LAYERS, "model_type": "llama", "vocab_size": 128256},
    "qwen25_14b": {
        **LAYERS,
        **{"model_type": "qwen2", "vocab_size": 152064, "hidden_size": 5120, "intermediate_size": 13824},
        **{"num_attention_heads": 40, "num_hidden_layers": 48},
    },
}
SMOLLM2 = Shape(layers=30, width=576, inner=1536, words=49152, key_values=192, tied=True, biased=False)
ROOMY = 10**15  # bytes: a machine that has everything
# The doctor, on a machine with so much of everything.
ON_A_LARGE_MACHINE = f"""
import shutil, sys
from collections import namedtuple
from safety_tax import cli
from safety_tax.checkup import machine
machine.memory = lambda: {ROOMY}
shutil.disk_usage = lambda folder: namedtuple("usage", "total used free")({ROOMY}, 0, {ROOMY})
sys.argv = ["safety-tax", "doctor", "--no-time"]
cli.main()
"""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """The report's models and datasets, a few bytes each; Llama is gated."""
    params = real_params()
    with serving() as hub:
        for name in ("mistral_7b", "llama31_8b", "qwen25_14b"):
            source = params["catalog"][name]["source"]
            folder = tmp_path / name
            folder.mkdir()
            (folder / "config.json").write_text(json.dumps(CONFIGS[name]), encoding="utf-8")
            (folder / "model.safetensors").write_bytes(b"12345678")
            hub.add("models", source["repository"], folder, source["commit"], gated=name == "llama31_8b")
        for name in ("beavertails", "mmlu_hub"):
            source = params["fetch_data"]["datasets"][name]["source"]
            for file in source["files"]:
                (tmp_path / name / file).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / name / file).write_bytes(b"rows")
            hub.add("datasets", source["repository"], tmp_path / name, source["commit"])
        hub.approved.add("hf_approved")
        hub.accounts["hf_approved"] = {"name": "ann", "auth": {"accessToken": {"role": "read"}}}
        yield hub


def doctor(
    hub: Hub, folder: Path, params: dict[str, Any], roomy: bool = True, fresh: bool = False, **more: str
) -> subprocess.CompletedProcess[str]:
    work = folder / "work"
    work.mkdir(exist_ok=True)
    (work / "dvc.yaml").touch()
    (work / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **hub.environment(folder / "home", **more)}
    program = ("-c", ON_A_LARGE_MACHINE) if roomy else ("-m", "safety_tax.cli", "doctor")
    return warm.python(*program, cwd=work, env=environment, fresh=fresh)


def report_params() -> dict[str, Any]:
    params = real_params()
    params["models"] = ["mistral_7b", "llama31_8b", "qwen25_14b"]
    params["run"]["provider"] = "cpu"
    return params


def test_a_run_that_can_succeed_is_passed(hub: Hub, tmp_path: Path) -> None:
    result = doctor(hub, tmp_path, report_params(), fresh=True, HF_TOKEN="hf_approved")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "nothing speaks against a run" in result.stdout
    for name in ("mistral_7b", "llama31_8b", "qwen25_14b", "beavertails", "mmlu_hub", "torch"):
        assert name in result.stdout
    assert not [request for request in hub.requests if request.startswith("GET /store/")]  # nothing was downloaded


def test_a_run_that_cannot_succeed_is_refused_with_every_reason(hub: Hub, tmp_path: Path) -> None:
    hub.faults.append(Fault("Qwen2.5-14B-Instruct", "status", 404, {"X-Error-Code": "RepoNotFound"}))
    result = doctor(hub, tmp_path, report_params(), fresh=True)
    assert result.returncode == 1
    assert "found it gated (401); set HF_TOKEN" in result.stderr
    assert (
        "qwen25_14b: Expected Qwen/Qwen2.5-14B-Instruct@cf98f3b3 on the Hub, found no such repository" in result.stderr
    )
    assert "Traceback" not in result.stderr


def test_the_real_sizes_do_not_fit_a_small_machine(hub: Hub, tmp_path: Path) -> None:
    hub.faults.append(Fault("model.safetensors", "huge"))
    result = doctor(hub, tmp_path, report_params(), roomy=False, HF_TOKEN="hf_approved")
    assert result.returncode == 1
    assert "disk, mistral_7b: make room" in result.stderr
    assert "GB of free disk in" in result.stderr  # the Hub's cache
    assert "measuring" not in result.stdout


def test_memory_is_told_for_each_stage_with_a_gpus_beside_it(hub: Hub, tmp_path: Path) -> None:
    result = doctor(hub, tmp_path, report_params(), HF_TOKEN="hf_approved")
    lines = {line for line in result.stdout.splitlines() if "memory, " in line}
    for name in CONFIGS:
        for stage in ("tune", "merge", "export", "infer"):
            (line,) = [line for line in lines if f"memory, {stage} of {name} " in line]
            assert ("GPU: about" in line) == (stage in ("tune", "infer"))
    if gpu_memory() is None:
        assert "GPU: no GPU" in result.stdout


@pytest.mark.parametrize(
    ("account", "said", "status"),
    [
        ({"name": "ann", "auth": {"accessToken": {"role": "read"}}}, "of ann, read", 0),
        (
            {
                "name": "ann",
                "auth": {
                    "accessToken": {
                        "role": "fineGrained",
                        "fineGrained": {
                            "canReadGatedRepos": True,
                            "scoped": [{"permissions": ["repo.content.read"]}],
                        },
                    }
                },
            },
            "of ann, fineGrained (repo.content.read; with gated repositories)",
            0,
        ),
        (None, "unknown to the Hub (401)", 1),
    ],
)
def test_the_tokens_scope_is_told(
    hub: Hub, tmp_path: Path, account: dict[str, Any] | None, said: str, status: int
) -> None:
    hub.accounts = {"hf_approved": account} if account else {}
    result = doctor(hub, tmp_path, report_params(), HF_TOKEN="hf_approved")
    assert result.returncode == status, result.stdout + result.stderr
    assert said in result.stdout
    assert "hf_approved" not in result.stdout + result.stderr


def test_what_lies_in_the_cache_needs_no_hub(hub: Hub, tmp_path: Path) -> None:
    params = report_params() | {"models": ["mistral_7b"]}
    offline = {"HF_HUB_OFFLINE": "1"}
    result = doctor(hub, tmp_path, params, **offline)
    assert result.returncode == 1
    assert "mistral_7b: Expected mistralai/Mistral-7B-v0.1@27d67f1b in the cache" in result.stderr
    source = params["catalog"]["mistral_7b"]["source"]
    download = "from huggingface_hub import snapshot_download as get\n"
    download += f"get('{source['repository']}', revision='{source['commit']}')\n"
    for name in ("beavertails", "mmlu_hub"):
        source = params["fetch_data"]["datasets"][name]["source"]
        download += f"get('{source['repository']}', revision='{source['commit']}', repo_type='dataset')\n"
    environment = {**os.environ, **hub.environment(tmp_path / "home")}
    subprocess.run([sys.executable, "-c", download], env=environment, check=True, capture_output=True)
    result = doctor(hub, tmp_path, params, **offline)
    assert result.returncode == 0, result.stderr
    assert "in the Hub's cache; the Hub does not answer" in result.stdout


def test_a_mirror_need_not_know_accounts(hub: Hub, tmp_path: Path) -> None:
    hub.faults.append(Fault("whoami", "status", 404))
    result = doctor(hub, tmp_path, report_params(), HF_TOKEN="hf_approved")
    assert result.returncode == 0, result.stderr
    assert "this Hub does not say" in result.stdout


def test_judges_and_curvature_are_asked_for_too(hub: Hub, tmp_path: Path) -> None:
    params = report_params() | {"models": ["mistral_7b"]}
    params["curvature"]["forms"] = ["kfac"]
    source = {"kind": "hub", "repository": "allenai/wildguard", "commit": "c" * 40}
    params["judge_models"] = {"wildguard": {"judge": "guard", "source": source, "dtype": "float16"}}
    result = doctor(hub, tmp_path, params, HF_TOKEN="hf_approved")
    assert result.returncode == 1
    assert "judge wildguard: Expected allenai/wildguard@cccccccc on the Hub, found no such repository" in result.stderr
    folder = tmp_path / "wildguard"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIGS["mistral_7b"]), encoding="utf-8")
    (folder / "model.safetensors").write_bytes(b"12345678")
    hub.add("models", "allenai/wildguard", folder, "c" * 40)
    result = doctor(hub, tmp_path, params, HF_TOKEN="hf_approved")
    assert result.returncode == 0, result.stdout + result.stderr
    for said in ("memory, judge of judge wildguard", "memory, curvature of mistral_7b", "disk, judge wildguard"):
        assert said in result.stdout


def test_curvature_takes_what_params_yaml_says_it_takes() -> None:
    params = validated(report_params())
    shape = shape_of(CONFIGS["mistral_7b"])
    assert shape is not None
    sizes = {}
    for form in ("kfac", "diagonal"):
        asked = params.model_copy(update={"curvature": params.curvature.model_copy(update={"forms": [form]})})
        sizes[form] = curvature_bytes(shape, asked) / 1e9, curvature_bytes(SMOLLM2, asked) / 1e9
    assert sizes["kfac"] == (pytest.approx(65.5, abs=0.1), pytest.approx(0.81, abs=0.01))
    assert sizes["diagonal"] == (pytest.approx(55.8, abs=0.1), pytest.approx(0.85, abs=0.01))


def test_a_fresh_clone_knows_a_wheels_size_and_says_what_it_cannot_check(hub: Hub, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    shutil.copy(ROOT / "dvc.lock", work)
    result = doctor(hub, tmp_path, real_params())
    assert result.returncode == 0, result.stderr
    assert "disk, smollm2_135m" in result.stdout and "about 2.2 GB" in result.stdout
    assert "not checked, until fetched: memory for smollm2_135m" in " ".join(result.stdout.split())
    changed = real_params()
    changed["catalog"]["smollm2_135m"]["source"]["sha256"] = "0" * 64  # the lock is of another file
    result = doctor(hub, tmp_path, changed)
    assert "not checked, until fetched: disk for smollm2_135m; memory" in " ".join(result.stdout.split())


def test_what_lies_there_already_takes_no_more_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    judge = JudgeModel.model_validate({"judge": "guard", "source": {"kind": "folder", "path": "."}, "dtype": "float16"})
    hub = judge.model_copy(update={"source": HubSource(kind="hub", repository="a/b", commit="c" * 40)})
    assert (judge_disk_need("g", 100, None, judge), judge_disk_need("g", 100, None, hub)) == (100, 200)
    small = Shape(layers=2, width=64, inner=128, words=600, key_values=32, tied=True, biased=False, dtype="bfloat16")
    half = small.bytes("float16")
    assert judge_disk_need("g", half, small, hub) == 2 * half  # the guard is stored in its entry's type
    assert judge_disk_need("g", half, small._replace(dtype="float16"), hub) == half
    assert donor_disk_need("safety of mistral_7b", 100) == 100
    for place in ("judges/g", "donors/mistral_7b/safety"):
        (tmp_path / "models" / place).mkdir(parents=True)
        (tmp_path / "models" / place / "weights").write_bytes(b"x" * 60)
    assert judge_disk_need("g", 100, None, hub) == 0
    assert donor_disk_need("safety of mistral_7b", 100) == 40


def test_each_weight_is_stored_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    params = validated(report_params())
    model, recipes = params.model("mistral_7b"), len(params.recipes)
    shape = shape_of(CONFIGS["mistral_7b"])
    assert shape is not None
    half = shape.bytes("float16")
    stored = {"float16": half, "bfloat16": half, "float32": 2 * half}
    for dtype, copies in (("float16", 0), ("bfloat16", 1), ("float32", 1)):
        asked = disk_need("mistral_7b", stored[dtype], shape._replace(dtype=dtype), model, params)
        assert asked == stored[dtype] + (recipes + copies) * half


def test_the_shape_gives_the_published_number_of_weights() -> None:
    counts = {name: shape.parameters for name, config in CONFIGS.items() if (shape := shape_of(config))}
    assert counts == {"mistral_7b": 7_241_732_096, "llama31_8b": 8_030_261_248, "qwen25_14b": 14_770_033_664}
    assert SMOLLM2.parameters == 134_515_008
    assert shape_of({}) is None


def test_checkpointing_is_what_lets_a_large_donor_fit() -> None:
    params = validated(report_params())
    kept = params.model_copy(update={"tune": params.tune.model_copy(update={"gradient_checkpointing": False})})
    less = params.model_copy(update={"tune": params.tune.model_copy(update={"gradient_checkpointing": True})})
    shape = shape_of(CONFIGS["qwen25_14b"])
    assert shape is not None
    model = params.model("qwen25_14b")
    # 29.5 GB of weights, 1.1 of the adapter and its optimizer, 1 to 2 of activations, 2.5 of logits.
    assert 33e9 < tuning_bytes(shape, model, less) < 36e9
    assert tuning_bytes(shape, model, kept) > tuning_bytes(shape, model, less) + 15e9
    on_gpu, apart, without = (
        memory_needs(shape, model, less, on_gpu=torch_has, infers_on_gpu=runtime_has)
        for torch_has, runtime_has in ((True, True), (True, False), (False, False))
    )
    assert all(needs.main > 0 for needs in on_gpu.values())
    # ONNX Runtime may lack its CUDA libraries where torch has its own: then the GPU tunes, and the processor infers.
    assert apart["tune"] == on_gpu["tune"]
    assert apart["infer"].main == without["infer"].main > 10 * on_gpu["infer"].main
    assert apart["infer"].gpu == 0 < on_gpu["infer"].gpu == without["infer"].gpu
    short = check_memory("tune of qwen25_14b", 1.0, 100e9, gpu=int(80e9))
    assert short.step and "tune.gradient_checkpointing" in short.step
    assert check_memory("tune of qwen25_14b", 1.0, 100e9, gpu=None).step is None  # then the processor runs it


def test_what_an_export_takes_is_told_as_it_was_measured() -> None:
    measured = json.loads((ROOT / "metrics/benchmarks/avx2/export.json").read_text(encoding="utf-8"))
    peaks = [(SMOLLM2, "float32", measured["speed"]["base"]["peak_bytes"])]
    for model in measured["memory"]["models"]:
        dtype, size = model["dtype"], model["weights_bytes"]
        shapes = [
            Shape(layers=layers, width=2048, inner=5632, words=32000, key_values=256, tied=True, biased=False)
            for layers in range(60)
        ]
        (wide,) = [shape for shape in shapes if shape.bytes(dtype) == size]
        peaks.append((wide, dtype, model["base"]["peak_bytes"]))
    assert len(peaks) == 4
    for shape, dtype, peak in peaks:
        assert PROGRAM + export_bytes(shape, dtype) == pytest.approx(peak, rel=1 / 3)


def test_a_rates_twofold_halves_the_time_that_hangs_on_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # no rows here: usual lengths
    raw = real_params()
    raw["sizes"]["quick"] |= {"benign": 80, "jailbreak": 40}
    raw["benchmark_sets"]["default"] = ["harmbench", "jailbreak_texts", "matched_benign", "mmlu"]
    params = validated(raw)
    model = params.model("smollm2_135m")
    load = load_of(model, params)
    assert load is not None
    # The set holds neither problems nor instructions, whatever the size says.
    assert ([(part.prompts, part.new_tokens) for part in load.answered], load.questions) == ([(150 + 40 + 80, 48)], 600)
    slow = Rates(multiply=1e11, read=1e15, tuning=1e11, rank=1e15, store=1e15, start=0.0)
    fast = slow._replace(multiply=2e11)
    before, after = (stage_seconds(SMOLLM2, model, params, load, rates, False) for rates in (slow, fast))
    assert after["infer"] == pytest.approx(before["infer"] / 2, rel=1e-3)
    assert after["tune"] == before["tune"]
    # 106 million linear weights, 28 of the head; a GroupQueryAttention graph keeps 0.9 of 100 GFLOP/s.
    tokens = load.answer_prompts + load.question_tokens + load.option_tokens
    head = load.questions + load.option_tokens
    written = 270 * 48 * (106_168_320 + 28_311_552)
    expected = 4 * 2 * (tokens * 106_168_320 + head * 28_311_552 + written) / 0.9e11
    assert before["infer"] == pytest.approx(expected, rel=1e-6)


def test_problems_and_instructions_are_counted_where_the_set_holds_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    raw = real_params()
    raw["sizes"]["quick"] = {kind: 10 for kind in KINDS} | {"other_format": 0}
    datasets = raw["fetch_data"]["datasets"]
    for name, kind in (("do_not_answer", "problem"), ("harmbench", "instruction")):
        datasets[name] = datasets[name] | {"kind": kind}
    raw["benchmark_sets"] = {
        name: ["strongreject", "do_not_answer", "harmbench", "matched_benign", "mmlu"] for name in raw["benchmark_sets"]
    }
    raw["run"] |= {"generation_tokens": 4000, "rows_per_batch": 8}
    seconds = []
    for limit, form in ((400, "chat"), (800, "chat"), (400, "worked_examples")):
        raw["infer"]["max_new_tokens"]["problem"] = limit
        raw["catalog"]["smollm2_135m"]["problem_format"] = form
        params = validated(raw)
        model = params.model("smollm2_135m")
        load = load_of(model, params)
        assert load is not None
        assert [(part.prompts, part.new_tokens) for part in load.answered] == [(20, 48), (10, limit), (10, 1280)]
        rates = Rates(multiply=1e18, read=1e9, tuning=1e18, rank=1e18, store=1e18, start=0.0)
        seconds.append(inference_seconds(SMOLLM2, model, params, load, rates, on_gpu=False))
    weights = 4 * (106_168_320 + 28_311_552) / 1e9
    # Steps that read all weights: 48 in 3 batches, 1,280 in 5 of two or three rows, and the problems'.
    assert seconds[0] == pytest.approx(weights * (3 * 48 + 2 * 400 + 5 * 1280), rel=1e-3)
    assert seconds[1] == pytest.approx(weights * (3 * 48 + 3 * 800 + 5 * 1280), rel=1e-3)
    # Five worked examples of about 112 tokens each: three rows have room.
    assert seconds[2] == pytest.approx(weights * (3 * 48 + 4 * 400 + 5 * 1280), rel=1e-3)


def test_durations_are_told_in_a_fitting_unit() -> None:
    assert [total([seconds, 1.0]) for seconds in (39.0, 1319.0, 12599.0)] == ["40 s", "22 minutes", "3.5 hours"]


def test_a_size_of_every_item_needs_the_items(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    params = validated(real_params() | {"size": "release"})
    assert load_of(params.model("smollm2_135m"), params) is None
    assert items_at_hand("benign", params) is None
    # What is in the repository can be counted.
    (tmp_path / "data").mkdir()
    (tmp_path / "data/prompts").symlink_to(ROOT / "data/prompts")
    assert items_at_hand("benign", params) == round(len(benign_rows()) * (1 - params.fetch_data.tune_share.benign))


def test_this_machine_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    small = Shape(layers=2, width=64, inner=128, words=600, key_values=32, tied=True, biased=False)
    rates = measure(small, CPU, "float16", validated(real_params()).tune, seconds=0.5)
    assert all(rate > 0 for rate in rates)
    assert 1e7 < rates.multiply < 1e15
    assert list(tmp_path.iterdir()) == []


def test_library_versions_are_read_as_their_makers_number_them() -> None:
    assert [dotted(number) for number in (8907, 90102, 91300)] == ["8.9.7", "9.1.2", "9.13.0"]
    assert library_version("libnosuchthing.so.1", "version", by_reference=False) is None


@pytest.mark.parametrize("wanted", [True, False])
def test_a_library_of_the_gpu_that_is_missing_is_a_fault_only_where_one_is_wanted(
    wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("safety_tax.checkup.machine.LIBRARIES", (("libnone.so.{}", "libnone.so"),) * 2)
    monkeypatch.setattr("onnxruntime.cuda_version", "13.0", raising=False)
    findings = cuda_libraries(wanted)
    assert [(finding.what, finding.found) for finding in findings] == [("CUDA", "not found"), ("cuDNN", "not found")]
    assert {finding.step is not None for finding in findings} == {wanted}
    # Neither fine nor a fault where nobody needs it: the mark is a dash, not `ok`.
    assert {finding.wanted for finding in findings} == {wanted}


def test_packages_are_compared_with_their_pins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {finding.step for finding in check_python()} == {None}
    written = tmp_path / "pinned-1.0.dist-info/METADATA"
    written.parent.mkdir()
    written.write_text(
        "Metadata-Version: 2.1\nName: pinned\nVersion: 1.0\nRequires-Python: >=3.99\nRequires-Dist: numpy==1.0\n"
        "Requires-Dist: no-such-package\nRequires-Dist: absent; python_version < '3'\n"
        "Requires-Dist: other; extra == 'more'\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    python, numpy, absent = check_python("pinned")
    assert python.step == "use Python >=3.99"
    assert numpy.needed == "==1.0" and numpy.step
    assert absent.found == "not installed" and absent.step


def test_disk_and_memory_are_compared_with_the_need(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    assert [finding.step for finding in check_disk(tmp_path, {"a": 1.0, "b": 2.0})] == [None, None]
    assert [bool(finding.step) for finding in check_disk(tmp_path, {"a": 0.6 * free, "b": 0.6 * free})] == [False, True]
    assert check_memory("export", 1).step is None
    assert check_memory("export", 1e18).step
    assert check_provider("cpu")[0].step is None


def test_a_remote_is_asked_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert check_remote() == []  # no DVC here
    (tmp_path / ".dvc").mkdir()
    config = tmp_path / ".dvc/config"
    config.write_text("[core]\n    no_scm = true\n", encoding="utf-8")
    assert check_remote() == []
    config.write_text(f"{config.read_text()}    remote = store\n['remote \"store\"']\n    url = {tmp_path}/store\n")
    assert [finding.found for finding in check_remote()] == ["answers, empty so far"]
    (tmp_path / "store/files/md5").mkdir(parents=True)
    assert [finding.found for finding in check_remote()] == ["answers, may be read and written"]
    assert not [*(tmp_path / "store/files/md5").iterdir()]
    config.write_text("[core]\n    no_scm = true\n    remote = gone\n", encoding="utf-8")
    (finding,) = check_remote()
    assert finding.step and "gone" in finding.step
