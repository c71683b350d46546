"""Hostile inputs for what reads files and texts: each target takes bytes and may raise PipelineError, nothing else."""

import contextlib
import io
import json
import random
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import yaml
from conftest import CHAT_TEMPLATE, ROOT, real_params
from gguf import GGUFReader, GGUFWriter
from huggingface_hub import configure_http_backend
from onnx import TensorProto, helper
from requests import PreparedRequest, Session
from requests import Response as Answer
from requests.adapters import BaseAdapter
from safetensors.numpy import save_file
from transformers import PreTrainedTokenizerFast

from safety_tax.commands.audit import read_labelled
from safety_tax.core.console import console
from safety_tax.core.errors import PipelineError
from safety_tax.core.rows import PROMPT, VERDICT, ChoiceScore, Response, read_rows
from safety_tax.core.tensor_files import INDEX, Checkpoint
from safety_tax.datasets.selection import read_datasets
from safety_tax.donors.opening import open_donor
from safety_tax.judging.guard_templates import TEMPLATES
from safety_tax.judging.human_labels import read_labels
from safety_tax.judging.rules import judge
from safety_tax.model_files.bringing import check
from safety_tax.onnx.onnx_files import require_contained
from safety_tax.params import validated
from safety_tax.settings.data import Dataset, Table
from safety_tax.settings.sources import FolderSource, HubSource
from safety_tax.sources.gguf_header import require_sound
from safety_tax.sources.hub import _require_all_shards, choose, list_files, require_no_code, require_room
from safety_tax.sources.wheel import _unpack
from safety_tax.tokens.chat_template import rendered_chat
from safety_tax.tokens.ends import ANY_DAY

Target = Callable[[bytes, Path], Any]


def _file(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def safetensors(data: bytes, folder: Path) -> Any:
    checkpoint = Checkpoint(_file(folder, "f.safetensors", data))
    return [(name, checkpoint.read(name).tobytes()) for name in checkpoint.names()]


def gguf(data: bytes, folder: Path) -> Any:
    """What the check lets through, the package reads."""
    path = _file(folder, "f.gguf", data)
    require_sound(path)
    reader = GGUFReader(path)
    found = [(tensor.name, tensor.data.tobytes()) for tensor in reader.tensors]
    del reader
    return found


def wheel(data: bytes, folder: Path) -> Any:
    shutil.rmtree(folder / "unpacked", ignore_errors=True)
    _unpack(_file(folder, "f.whl", data), "data", folder / "unpacked")
    return sorted(str(path.relative_to(folder)) for path in (folder / "unpacked").rglob("*"))


def rows(data: bytes, folder: Path) -> Any:
    path = _file(folder, "f.jsonl", data)
    found = []
    for kind in (PROMPT, Response, ChoiceScore, VERDICT):
        with contextlib.suppress(PipelineError):
            found.append(read_rows(path, kind))  # type: ignore[arg-type]
    for read in (read_labels, read_labelled):
        with contextlib.suppress(PipelineError):
            found.append(read(path))  # type: ignore[operator]
    return found


def params(data: bytes, folder: Path) -> Any:
    try:
        content = yaml.safe_load(data.decode("utf-8", "replace"))  # the loader of `read_params`
    except (yaml.YAMLError, ValueError, RecursionError):
        return None  # `read_params` catches the same, and a test asks it
    return validated(content)


class _Says(BaseAdapter):
    """A server whose every answer is `body`; nothing leaves the process."""

    def __init__(self, body: bytes) -> None:
        super().__init__()
        self.body = body

    def send(self, request: PreparedRequest, *_: Any, **__: Any) -> Answer:  # type: ignore[override]
        answer = Answer()
        answer.status_code, answer.url, answer.request = 200, str(request.url), request
        answer.headers["Content-Type"] = "application/json"
        answer.raw = io.BytesIO(self.body)
        return answer

    def close(self) -> None:
        pass


def hub_answer(data: bytes, folder: Path) -> Any:
    """The Hub's list of a repository's files, through the real client."""

    def session() -> Session:
        made = Session()
        made.mount("https://", _Says(data))
        made.mount("http://", _Says(data))
        return made

    source = HubSource(kind="hub", repository="some/model", commit="a" * 40)
    configure_http_backend(backend_factory=session)
    try:
        files = choose(list_files(source, attempts=1), "some/model")
    finally:
        configure_http_backend()
    require_room(source, files, "some/model")
    return files


def hub_files(data: bytes, folder: Path) -> Any:
    """A downloaded configuration, and the index of a checkpoint in shards."""
    found = []
    for name in ("config.json", INDEX):
        path = _file(folder, name, data)
        with contextlib.suppress(PipelineError):
            require_no_code([path], "some/model")
            _require_all_shards([path], ["model-00001-of-00002.safetensors"], "some/model")
            found.append(name)
        path.unlink()
    return found


def _weights(folder: Path, stem: str, tensors: dict[str, tuple[int, ...]]) -> Path:
    folder.mkdir(exist_ok=True)
    if not (folder / f"{stem}.safetensors").exists():
        ones = {name: np.ones(shape, np.float32) for name, shape in tensors.items()}
        save_file(ones, folder / f"{stem}.safetensors")
    return folder


BASE = {
    "model.embed_tokens.weight": (4, 2),
    "model.layers.0.mlp.up_proj.weight": (3, 2),
    "model.norm.weight": (2,),
}
WHOLE = BASE | {
    **{f"model.layers.0.self_attn.{name}_proj.weight": (2, 2) for name in "qkvo"},
    **{f"model.layers.0.{name}_layernorm.weight": (2,) for name in ("input", "post_attention")},
    "model.layers.0.mlp.gate_proj.weight": (3, 2),
    "model.layers.0.mlp.down_proj.weight": (2, 3),
}


def settings(data: bytes, folder: Path) -> Any:
    """A model's config.json beside sound weights."""
    model = _weights(folder / "whole", "model", WHOLE)
    _file(model, "config.json", data)
    return check(model)


def shard_index(data: bytes, folder: Path) -> Any:
    model = _weights(folder / "sharded", "model", BASE)
    _file(model, INDEX, data)
    return Checkpoint(model).names()


def adapter(data: bytes, folder: Path) -> Any:
    """A LoRA adapter's configuration beside sound matrices."""
    base = _weights(folder / "base", "model", BASE)
    module = "base_model.model.model.layers.0.mlp.up_proj"
    shapes: dict[str, tuple[int, ...]] = {f"{module}.lora_A.weight": (1, 2), f"{module}.lora_B.weight": (3, 1)}
    shapes["base_model.model.model.norm.weight"] = (2,)
    donor = _weights(folder / "donor", "adapter_model", shapes)
    _file(donor, "adapter_config.json", data)
    opened = open_donor(donor, Checkpoint(base))
    return [(name, opened.delta(name).tobytes()) for name in opened.names()]


def onnx_graph(data: bytes, folder: Path) -> Any:
    return require_contained(_file(folder, "model.onnx", data))


def csv_table(data: bytes, folder: Path) -> Any:
    """A dataset in CSV, as `fetch_data` reads it."""
    place = folder / "csv" / "data"
    place.mkdir(parents=True, exist_ok=True)
    _file(place, "harmful-behaviors.csv", data)
    table = Table(files=["data/*.csv"], text="Goal", group="Category")
    dataset = Dataset(kind="harmful", source=FolderSource(kind="folder", path=str(folder / "csv")), table=table)
    console.quiet = True
    try:
        return read_datasets({"behaviors": dataset})
    finally:
        console.quiet = False


class _Template(PreTrainedTokenizerFast):  # type: ignore[misc]
    """A chat template without a vocabulary."""

    def __init__(self, template: str) -> None:
        self.chat_template = template

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)

    @property
    def special_tokens_map(self) -> dict[str, str]:
        return {"bos_token": "<s>", "eos_token": "</s>"}


def chat_template(data: bytes, folder: Path) -> Any:
    turns = [{"role": "user", "content": "Hello"}]
    tokenizer: Any = _Template(data.decode("utf-8", "surrogateescape"))
    return rendered_chat(tokenizer, turns, "m", ANY_DAY, add_generation_prompt=True)


def guard_output(data: bytes, folder: Path) -> Any:
    text = data.decode("utf-8", "surrogateescape")
    return [template.read(text) for template in TEMPLATES.values()]


def rules_judge(data: bytes, folder: Path) -> Any:
    text = data.decode("utf-8", "surrogateescape")
    return [judge(text, reason) for reason in ("stop", "length")]


def _seed_gguf(folder: Path) -> bytes:
    path = folder / "seed.gguf"
    writer = GGUFWriter(path, "llama")
    writer.add_embedding_length(8)
    writer.add_token_list(["a", "b"])
    writer.add_array("x.list", [1, 2, 3])
    writer.add_tensor("t", np.arange(8, dtype=np.float32).reshape(2, 4))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


def seeds(folder: Path) -> dict[str, list[bytes]]:
    """Sound inputs of every target, to be damaged."""
    header = json.dumps({"__metadata__": {}, "a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}).encode()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in (("data/rows.jsonl", '{"a": 1}\n' * 20), ("data/more/x", "x")):
            entry = zipfile.ZipInfo(name)  # of 1980, not of now: the same bytes every time
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    prompt = {"id": "a", "benchmark": "b", "kind": "harmful", "group": "g", "split": "eval", "text": "t\u2028"}
    response = {"id": "a", "text": "\ud800", "finish_reason": "stop", "tokens": 1}
    score = {"id": "a", "letter_logprobs": [-1.0, -2.5], "letter_mass": 0.5, "continuation_bytes": [1, 2]}
    label = {"prompt": "p", "response": "r", "label": "refuse", "id": 3}
    sentences = [
        "I'm sorry, but I can't help with that. Instead, consider asking a friend.",
        "Sure! 1. Wash the rice. 2. Bring water to the boil. 3. Add the rice.",
        "As an AI, I do not have opinions; it is important to respect everyone.",
        "no",
    ]
    lfs = {"sha256": "b" * 64, "size": 100, "pointerSize": 130}
    siblings = [{"rfilename": "config.json", "size": 20}, {"rfilename": "model.safetensors", "size": 100, "lfs": lfs}]
    listing = {"_id": "1", "id": "some/model", "sha": "a" * 40, "private": False, "siblings": siblings}
    config = {"architectures": ["LlamaForCausalLM"], "vocab_size": 4, "hidden_size": 2, "num_attention_heads": 1}
    config |= {"intermediate_size": 3, "num_hidden_layers": 1, "model_type": "llama", "tie_word_embeddings": True}
    newer = {**config, "rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0}, "dtype": "float32"}
    lora = {"peft_type": "LORA", "r": 1, "lora_alpha": 2, "bias": "none", "modules_to_save": ["norm"]}
    lora |= {"alpha_pattern": {"up_proj": 4}, "use_rslora": False, "target_modules": ["up_proj"]}
    index = {"metadata": {"total_size": 1}, "weight_map": {"a": "model-00001-of-00002.safetensors"}}
    tensor = helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0])
    outside = onnx.TensorProto(name="x", data_type=1, dims=[1], data_location=TensorProto.EXTERNAL)
    outside.external_data.add(key="location", value="model.onnx")
    outside.external_data.add(key="length", value="4")
    node = helper.make_node("If", ["c"], ["y"], then_branch=helper.make_graph([], "g", [], [], [tensor]))
    table = "Index,Goal,Target,Behavior,Category,Source\n0,Do harm,Sure,Harm,Malware,Original\n"
    table += '1,"Do ""more""\nharm",Sure,Harm,Fraud/Deception,Original\n'
    small = {key: value for key, value in real_params().items() if key not in ("catalog", "fetch_data")}
    return {
        "safetensors": [struct.pack("<Q", len(header)) + header + b"\0" * 16],
        "gguf": [_seed_gguf(folder)],
        "wheel": [packed.getvalue()],
        "rows": [json.dumps(row).encode() + b"\n" for row in (prompt, response, score, label)],
        "params": [(ROOT / "params.yaml").read_bytes(), yaml.safe_dump(small).encode()],
        "hub_answer": [json.dumps(listing).encode()],
        "hub_files": [json.dumps(index).encode(), json.dumps(config).encode()],
        "settings": [json.dumps(config).encode(), json.dumps(newer).encode()],
        "shard_index": [json.dumps({"weight_map": {"a": "model.safetensors"}}).encode()],
        "adapter": [json.dumps(lora).encode()],
        "onnx_graph": [
            helper.make_model(helper.make_graph([node], "g", [], [], [tensor, outside])).SerializeToString()
        ],
        "csv_table": [table.encode()],
        "chat_template": [
            CHAT_TEMPLATE.encode(),
            *(file.read_bytes() for file in sorted((ROOT / "data/chat_templates").glob("*.jinja"))),
        ],
        "guard_output": [b"unsafe\nS1,S14", b"Harmful request: yes\nResponse refusal: no\nHarmful response: n/a"],
        "rules_judge": [sentence.encode() for sentence in sentences],
    }


TARGETS: dict[str, Target] = {
    target.__name__: target
    for target in (
        *(safetensors, gguf, wheel, rows, params, hub_answer, hub_files, settings, shard_index, adapter, onnx_graph),
        *(csv_table, chat_template, guard_output, rules_judge),
    )
}
PIECES = (
    b"\0", b"\xff" * 8, b"\x01" + b"\0" * 7, b"NaN", b"1e999", b"null", b"[" * 50, b"{", b"}", b"\n", b"\r", b"'", b'"',
    b"I ", b"a" * 100, b" " * 100, b"../", b"-1", b"99999999999999999999", b"\xe2\x80\xa8", b"\xed\xa0\x80", b"true",
    b"\x1b[2J", b": ", b"&a *a", b"2023-13-45", b"!!python/object:os.system",
)  # fmt: skip


def damaged(seed: bytes, chance: random.Random) -> bytes:
    """The seed with one to six random changes."""
    data = bytearray(seed)
    for _ in range(chance.randint(1, 6)):
        place = chance.randrange(len(data) + 1)
        end = min(len(data), place + chance.choice((0, 1, 1, 4, 8, 40)))
        match chance.randrange(5):
            case 0:
                data[place:end] = bytes(chance.randrange(256) for _ in range(end - place))
            case 1:
                data[place:end] = chance.choice(PIECES)
            case 2:
                del data[place:end]
            case 3:
                data[place:place] = data[place:end]
            case _ if place < len(data):
                data[place] ^= 1 << chance.randrange(8)
    return bytes(data)


def outcome(target: Target, data: bytes, folder: Path) -> tuple[str, str]:
    """("read" or "refused", what came of it); any exception but PipelineError is a fault and gets out."""
    try:
        return "read", repr(target(data, folder))
    except PipelineError as error:
        sentence = str(error)
        # What was expected and what was found, and not a page. `run_stage` prints a newline in it as a code.
        assert sentence.startswith("Expected") and "found" in sentence, sentence[:200]
        assert len(sentence) < 2000, sentence[:200]
        return "refused", sentence
