"""A merge that exists: taken as it is, from a folder or a loopback Hub, through the gates of a donor."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import pytest
import warm
import yaml
from conftest import ROOT, real_params
from hub_server import serving
from safetensors.numpy import load_file, save_file

from safety_tax.core.console import run_stage
from safety_tax.core.errors import PipelineError
from safety_tax.core.tensor_files import Checkpoint, write_checkpoint
from safety_tax.merging.bench import Bench
from safety_tax.merging.methods.given import Given
from safety_tax.merging.opening import open_merge
from safety_tax.params import validated
from safety_tax.settings.sources import FolderSource
from stages import merge as stage

MODEL = "smollm2_135m"
COMMIT = "d" * 40
QUERY, EMBEDDINGS, HEAD = "model.layers.0.self_attn.q_proj.weight", "model.embed_tokens.weight", "lm_head.weight"
CONFIG = {
    "model_type": "llama",
    "tie_word_embeddings": False,
    "architectures": ["LlamaForCausalLM"],
    "num_hidden_layers": 1,
    "vocab_size": 3,
}
WORDS = {"model": {"type": "BPE", "vocab": {"a": 0, "b": 1}}}


def write_model(
    folder: Path, seed: int, dtype: Any = np.float32, rows: int = 3, **config: Any
) -> dict[str, np.ndarray]:
    """A checkpoint of three tensors; returns them in float32."""
    draw = np.random.default_rng(seed)
    shapes = {QUERY: (4, 6), EMBEDDINGS: (rows, 6), HEAD: (rows, 6)}
    tensors = {name: draw.normal(size=shape).astype(dtype) for name, shape in shapes.items()}
    folder.mkdir(parents=True, exist_ok=True)
    write_checkpoint(folder, shapes, np.dtype(dtype), tensors.__getitem__)
    (folder / "config.json").write_text(json.dumps(CONFIG | config), encoding="utf-8")
    (folder / "tokenizer.json").write_text(json.dumps(WORDS), encoding="utf-8")
    return {name: tensor.astype(np.float32) for name, tensor in tensors.items()}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose base is there."""
    write_model(tmp_path / "models/base" / MODEL, 1)
    (tmp_path / "dvc.yaml").touch()
    return tmp_path


class Told(NamedTuple):
    """How a run of the stage ended, and what it said."""

    returncode: int
    stdout: str
    stderr: str


Merge = Callable[..., Told]


def write_params(project: Path, source: dict[str, Any], dtype: str) -> None:
    params = real_params()
    params["catalog"][MODEL]["dtype"] = dtype
    params["recipes"] = {"mine": {"method": "given", "source": source}}
    (project / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")


@pytest.fixture
def merge(project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Merge:
    """The stage in the project, with a recipe `mine` of that source."""

    def run(source: dict[str, Any]) -> Told:
        write_params(project, source, "float32")
        monkeypatch.chdir(project)
        monkeypatch.setattr(sys, "argv", ["merge", MODEL, "mine"])
        try:
            run_stage(stage.main)
        except SystemExit as stopped:
            return Told(int(str(stopped.code)), *capsys.readouterr())
        return Told(0, *capsys.readouterr())

    return run


def refused(result: Told, project: Path) -> str:
    """The one sentence; nothing was left behind, and it speaks of no folder under way."""
    assert result.returncode == 1, result.stdout + result.stderr
    assert result.stderr.count("\n") == 1, result.stderr
    assert "sources/" not in result.stderr and ".partial" not in result.stderr
    assert not [file for place in ("runs", "models/merged") for file in (project / place).rglob("*") if file.is_file()]
    return result.stderr


def test_the_tensors_of_a_folder_are_taken_as_they_are(merge: Merge, project: Path, tmp_path: Path) -> None:
    tensors = write_model(tmp_path / "made", 2)
    (tmp_path / "made/merge_config.yml").write_text("by mergekit", encoding="utf-8")
    result = merge({"kind": "folder", "path": "made"})
    assert result.returncode == 0, result.stderr
    assert f"merge: {MODEL} mine, given of made" in result.stdout
    target = project / "models/merged" / MODEL / "mine"
    assert {file.name for file in target.iterdir()} == {
        *("config.json", "merge.json", "model.safetensors", "tokenizer.json")
    }
    found = Checkpoint(target, "model*.safetensors")
    assert all(np.array_equal(found.read(name), tensor) for name, tensor in tensors.items())
    report = json.loads((target / "merge.json").read_text(encoding="utf-8"))
    assert report["recipe"]["source"] == {"kind": "folder", "path": "made"}
    base = load_file(project / "models/base" / MODEL / "model.safetensors")
    change = sum(float(np.sum((tensors[name].astype(np.float64) - base[name]) ** 2)) for name in base)
    assert report["change_norm"] == pytest.approx(change**0.5)
    assert not list((project / "runs").rglob("*.safetensors"))
    assert load_file(tmp_path / "made/model.safetensors").keys() == tensors.keys()  # it lies where it lay


NOT_A_MODEL = {
    "nothing": ([], "found none; name the folder that holds them"),
    "a file": (None, "Expected a folder at made, found a file; name its folder as `path`"),
    "a GGUF file": (["made-Q4_K_M.gguf"], "found made-Q4_K_M.gguf; load it by Transformers' `from_pretrained"),
    "pickled": (["pytorch_model.bin"], "found pytorch_model.bin; save it as safetensors: pickled weights run code"),
    "a trainer's folder": (
        ["checkpoint-5/model.safetensors", "checkpoint-9/model.safetensors"],
        "found none, but some in its folder checkpoint-9; name that folder",
    ),
}


@pytest.mark.parametrize("case", NOT_A_MODEL)
def test_a_place_without_weights_is_said_with_what_lies_there(case: str, merge: Merge, project: Path) -> None:
    files, said = NOT_A_MODEL[case]
    if files is None:
        (project / "made").touch()
    else:
        (project / "made").mkdir()
    for file in files or ():
        (project / "made" / file).parent.mkdir(exist_ok=True)
        (project / "made" / file).touch()
    assert said in refused(merge({"kind": "folder", "path": "made"}), project)


def test_a_torn_file_is_named_where_it_lies(merge: Merge, project: Path) -> None:
    write_model(project / "made", 2)
    whole = (project / "made/model.safetensors").read_bytes()
    (project / "made/model.safetensors").write_bytes(whole[: len(whole) // 2])
    assert " at made/model.safetensors, found" in refused(merge({"kind": "folder", "path": "made"}), project)


def test_a_tensor_that_the_base_has_not_is_no_part_of_a_merge(merge: Merge, project: Path) -> None:
    tensors = write_model(project / "made", 2)
    save_file(tensors | {"v_head.weight": np.zeros((1, 6), np.float32)}, project / "made/model.safetensors")
    said = refused(merge({"kind": "folder", "path": "made"}), project)
    assert (
        "the model of recipe 'mine' to have the base's tensors and no other, found v_head.weight in made (1 in" in said
    )


def test_of_an_adapter_beside_a_whole_model_the_adapter_is_taken_and_told(merge: Merge, project: Path) -> None:
    write_model(project / "made", 2)
    settings = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["q_proj"]}
    (project / "made/adapter_config.json").write_text(json.dumps(settings), encoding="utf-8")
    pair = {
        f"base_model.model.{QUERY.removesuffix('.weight')}.lora_{side}.weight": np.ones(shape, np.float32)
        for side, shape in (("A", (2, 6)), ("B", (4, 2)))
    }
    save_file(pair, project / "made/adapter_model.safetensors")
    result = merge({"kind": "folder", "path": "made"})
    assert result.returncode == 0, result.stderr
    assert "made holds an adapter and a whole model: the adapter is taken" in result.stdout
    base, found = (Checkpoint(project / "models" / kind) for kind in (f"base/{MODEL}", f"merged/{MODEL}/mine"))
    np.testing.assert_allclose(found.read(QUERY) - base.read(QUERY), np.full((4, 6), 2.0), rtol=1e-6)  # r/r · Σ 1 · 1


def test_a_merge_of_the_hub_comes_in_the_catalogues_dtype(project: Path, tmp_path: Path) -> None:
    tensors = write_model(tmp_path / "made", 2, ml_dtypes.bfloat16)
    with serving() as hub:
        hub.add("models", "own/merge", tmp_path / "made", COMMIT)
        write_params(project, {"kind": "hub", "repository": "own/merge", "commit": COMMIT}, "float16")
        # The client reads its settings on import.
        around = {**os.environ, "PYTHONPATH": str(ROOT), **hub.environment(tmp_path / "home")}
        result = warm.python("-m", "stages.merge", MODEL, "mine", cwd=project, env=around)
    assert result.returncode == 0, result.stdout + result.stderr
    found = Checkpoint(project / "models/merged" / MODEL / "mine", "model*.safetensors")
    assert all(np.array_equal(found.read(name), tensor.astype(np.float16)) for name, tensor in tensors.items())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rope_theta": 5e5}, ("the base's rope_theta 10000.0, found 500000.0 in made/config.json", "to recipes.mine")),
        (
            {"model_type": "mistral", "architectures": ["MistralForCausalLM"]},
            ("the model of recipe 'mine'", "model_type", "another architecture"),
        ),
    ],
)
def test_a_merge_of_another_function_is_refused(
    change: dict[str, Any], said: tuple[str, ...], merge: Merge, project: Path, tmp_path: Path
) -> None:
    write_model(tmp_path / "made", 2, **change)
    sentence = refused(merge({"kind": "folder", "path": "made"}), project)
    assert all(word in sentence for word in said), sentence


def test_a_merge_of_another_vocabulary_or_shape_is_refused(merge: Merge, project: Path, tmp_path: Path) -> None:
    source = {"kind": "folder", "path": "made"}
    write_model(tmp_path / "made", 2)
    (tmp_path / "made/tokenizer.json").write_text(json.dumps(WORDS).replace('"a": 0', '"c": 0'), encoding="utf-8")
    sentence = refused(merge(source), project)
    assert "Expected the model of recipe 'mine' to have the base's vocabulary, found token" in sentence
    write_model(tmp_path / "made", 2)
    tensors = load_file(tmp_path / "made/model.safetensors")
    save_file(tensors | {QUERY: np.ones((4, 8), np.float32)}, tmp_path / "made/model.safetensors")
    sentence = refused(merge(source), project)
    assert "the model of recipe 'mine' to have the shape (4, 6) of the base" in sentence


def test_a_merge_equal_to_the_base_or_with_nan_is_refused(merge: Merge, project: Path, tmp_path: Path) -> None:
    source = {"kind": "folder", "path": "made"}
    shutil.copytree(project / "models/base" / MODEL, tmp_path / "made")
    sentence = refused(merge(source), project)
    assert "equal to it in mine; name another source in params.yaml: there is nothing to measure." in sentence
    tensors = write_model(tmp_path / "made", 2)
    tensors[QUERY][0, 0] = np.nan
    save_file(tensors, tmp_path / "made/model.safetensors")
    assert "found NaN or infinity" in refused(merge(source), project)


def test_spare_rows_are_the_bases(project: Path, tmp_path: Path) -> None:
    """Rows of no token: a merge may have fewer, or more."""
    base = Checkpoint(project / "models/base" / MODEL)
    for rows in (2, 5):
        tensors = write_model(tmp_path / f"made{rows}", 2, rows=rows)
        source = FolderSource(kind="folder", path=str(tmp_path / f"made{rows}"))
        bench = Bench("m", "mine", base, tmp_path, tmp_path, tmp_path, {"made": source}, tmp_path / f"scratch{rows}")
        made = open_merge(Given(method="given", source=source), bench).merge
        found, _ = made.tensor(EMBEDDINGS)
        assert np.array_equal(found[:2], tensors[EMBEDDINGS][:2])
        assert np.array_equal(found[2], (tensors[EMBEDDINGS] if rows > 2 else base.read(EMBEDDINGS))[2])


def test_a_source_is_given_by_model_and_nothing_else_is_asked_for() -> None:
    params = real_params()
    source = {"kind": "hub", "repository": "own/merge", "commit": COMMIT}
    params["recipes"]["mine"] = {"method": "given", "source": {MODEL: source}}
    recipe = validated(params).recipe("mine")
    assert recipe.reads() == [] and recipe.held() == 1
    for change, said in (
        ({"source": {"mistral_7b": source}}, f"recipes.mine.source has no entry for the model '{MODEL}'"),
        (
            {"source": {**source, "commit": "main"}},
            "recipes.mine.source.commit in params.yaml: the 40 digits of a commit",
        ),
        ({"source": source, "donors": {"safety": 1.0}}, "found recipes.mine.donors"),
        ({"source": source, "may_differ": ["model_type"]}, "may_differ has 'model_type'"),
    ):
        params["recipes"]["mine"] = {"method": "given", **change}
        with pytest.raises(PipelineError, match=said):
            validated(params)
