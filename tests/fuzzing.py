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
import yaml
from conftest import ROOT, real_params
from gguf import GGUFReader, GGUFWriter

from stages.audit_judge import read_labelled
from stages.lib.errors import PipelineError
from stages.lib.human_labels import read_labels
from stages.lib.judging.guard_templates import TEMPLATES
from stages.lib.judging.rules import judge
from stages.lib.params import validated
from stages.lib.rows import ChoiceScore, Prompt, Response, Verdict, read_rows
from stages.lib.sources.gguf_header import require_sound
from stages.lib.sources.wheel import _unpack
from stages.lib.tensor_files import Checkpoint

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
    for kind in (Prompt, Response, ChoiceScore, Verdict):
        with contextlib.suppress(PipelineError):
            found.append(read_rows(path, kind))
    for read in (read_labels, read_labelled):
        with contextlib.suppress(PipelineError):
            found.append(read(path))  # type: ignore[operator]
    return found


def params(data: bytes, folder: Path) -> Any:
    try:
        content = yaml.load(data.decode("utf-8", "replace"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, ValueError, RecursionError):
        return None  # `read_params` catches the same, and a test asks it
    return validated(content)


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
    small = {key: value for key, value in real_params().items() if key not in ("catalog", "fetch_data")}
    return {
        "safetensors": [struct.pack("<Q", len(header)) + header + b"\0" * 16],
        "gguf": [_seed_gguf(folder)],
        "wheel": [packed.getvalue()],
        "rows": [json.dumps(row).encode() + b"\n" for row in (prompt, response, score, label)],
        "params": [(ROOT / "params.yaml").read_bytes(), yaml.safe_dump(small).encode()],
        "guard_output": [b"unsafe\nS1,S14", b"Harmful request: yes\nResponse refusal: no\nHarmful response: n/a"],
        "rules_judge": [sentence.encode() for sentence in sentences],
    }


TARGETS: dict[str, Target] = {
    target.__name__: target for target in (safetensors, gguf, wheel, rows, params, guard_output, rules_judge)
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
        # From the check, or in the writer of a test: a refusal is a sentence and not a page.
        assert len(sentence) < 2000, sentence[:200]
        return "refused", sentence
