"""Files and texts made to harm: refused before memory is taken, or kept as they are and never shown raw."""

import json
import math
import os
import re
import stat
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from conftest import CHAT_TEMPLATE, ROOT, SECRETS, Project
from gguf import GGUFReader, GGUFWriter
from onnx import TensorProto, helper
from transformers import PreTrainedTokenizerFast
from workplace import encoder_of

from safety_tax.commands.audit import excerpt
from safety_tax.commands.label import visible
from safety_tax.core.console import printable, say
from safety_tax.core.errors import PipelineError
from safety_tax.core.rows import ChoiceScore, Response, read_rows, write_rows
from safety_tax.core.tensor_files import INDEX, Checkpoint
from safety_tax.datasets import mmlu
from safety_tax.datasets.selection import read_datasets, require_texts
from safety_tax.model_files.bringing import check
from safety_tax.onnx.onnx_files import require_contained
from safety_tax.settings.data import Dataset
from safety_tax.settings.sources import WheelSource
from safety_tax.sources.gguf_header import open_gguf, require_sound
from safety_tax.sources.gguf_model import require_sizes
from safety_tax.sources.wheel import _unpack
from safety_tax.tokens import chat_template as templates

UGLY = {
    "control characters": "a\x00b\x07c\x1b[2Jd\x1b]0;title\x07e\x7f\x9b31m",
    "lone surrogates": "\ud800 and \udfff",
    "line separators": "one\u2028two\u2029three\x85four\x0bfive\rsix\r\nseven\neight",
    "a long line": "x" * 1_000_000,
    "markup": '<script>alert("1")</script> [red]not red[/red] [link=http://x]y[/link] & `code` | cell',
    "direction": "\u202egnp.exe\u2066\u200b",
    "nothing": "",
}


@pytest.mark.parametrize("text", UGLY.values(), ids=UGLY)
def test_an_answer_is_kept_to_the_character(tmp_path: Path, text: str) -> None:
    rows = [Response(id=name, text=text, finish_reason="stop", tokens=1) for name in "ab"]
    write_rows(tmp_path / "rows.jsonl", rows)
    assert (tmp_path / "rows.jsonl").read_bytes().count(b"\n") == 3  # the seal's, too
    assert read_rows(tmp_path / "rows.jsonl", Response) == rows


def obeyed(text: str) -> list[str]:
    """What a terminal might obey, line feeds left out."""
    return re.findall("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u200b\u202a-\u202e\u2066-\u2069\ud800-\udfff]", text)


@pytest.mark.parametrize("text", UGLY.values(), ids=UGLY)
def test_no_answer_reaches_a_terminal_raw(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    say(text)
    assert obeyed(capsys.readouterr().out) == []
    assert obeyed(visible(text).plain) == []
    assert obeyed(excerpt(text)) == []
    assert obeyed(printable(text)) == []
    assert "\n" not in printable(text)


def test_brackets_are_text_and_not_markup(capsys: pytest.CaptureFixture[str]) -> None:
    say(UGLY["markup"])
    assert "[red]not red[/red]" in capsys.readouterr().out


@pytest.mark.parametrize(
    "line",
    [
        b"[" * 100_000,
        b'{"id": "a", "text": "\xff", "finish_reason": "stop", "tokens": 1}',
        b'{"id": "a", "text": "t", "finish_reason": "stop", "tokens": ' + b"9" * 10_000 + b"}",
        b'\xef\xbb\xbf{"id": "a"}',
        '{"id": "a"}'.encode("utf-16"),
        b"\x00",
    ],
)
def test_a_line_that_is_no_row_is_one_sentence(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "rows.jsonl").write_bytes(line + b"\n")
    with pytest.raises(PipelineError, match=r"Expected (a row in|.* to be text in UTF-8)") as caught:
        read_rows(tmp_path / "rows.jsonl", Response)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_score_that_is_no_number_is_refused(tmp_path: Path, number: str) -> None:
    row = f'{{"id": "a", "letter_mass": {number}, "continuation_bytes": [1]}}\n'
    (tmp_path / "rows.jsonl").write_text(row, encoding="utf-8")
    with pytest.raises(PipelineError, match="letter_mass"):
        read_rows(tmp_path / "rows.jsonl", ChoiceScore)


def safetensors(header: Any, body: bytes = b"\0" * 16) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


FOUR = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}


@pytest.mark.parametrize(
    "content",
    [
        safetensors({"a": FOUR | {"shape": [2**32, 2**32], "data_offsets": [0, 0]}}),  # its product wraps to 0
        safetensors({"a": FOUR | {"shape": [2**62, 4]}}),
        safetensors({"a": FOUR | {"shape": [True, 4]}}),
        safetensors({"a": FOUR | {"shape": [4.0]}}),
        safetensors({"a": FOUR | {"shape": "4"}}),
        safetensors({"a": FOUR | {"shape": [1] * 65 + [4]}}),
        safetensors({"a": FOUR | {"data_offsets": [0, 16, 16]}}),
        safetensors({"a": FOUR | {"data_offsets": [2**70, 2**70 + 16]}}),
        safetensors({"a": FOUR, "b": FOUR}),  # one over the other
        safetensors({"a": FOUR}, b"\0" * 32),  # bytes that no tensor owns
        safetensors(b'{"a": %b, "a": %b}' % ((json.dumps(FOUR).encode(),) * 2)),
        safetensors(b"[" * 100_000),
        safetensors(b"\xff\xfe"),
        safetensors({"a": 1}),
    ],
)
def test_a_safetensors_header_that_does_not_fit_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(PipelineError, match="fetch it again"):
        Checkpoint(tmp_path)


def test_a_tensor_in_two_files_is_refused(tmp_path: Path) -> None:
    for name in ("a.safetensors", "b.safetensors"):
        (tmp_path / name).write_bytes(safetensors({"w": FOUR}))
    with pytest.raises(PipelineError, match=r"'w' in b\.safetensors and in a\.safetensors"):
        Checkpoint(tmp_path)


@pytest.mark.parametrize("named", ["../outside.safetensors", "/etc/passwd", "missing.safetensors", "..\\x", "", "."])
def test_an_index_names_files_beside_it(tmp_path: Path, named: str) -> None:
    (tmp_path / "outside.safetensors").write_bytes(safetensors({"w": FOUR}))
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(safetensors({"w": FOUR}))
    (folder / INDEX).write_text(json.dumps({"weight_map": {"w": named}}), encoding="utf-8")
    with pytest.raises(PipelineError, match=r"which model\.safetensors\.index\.json names"):
        Checkpoint(folder)


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def gguf_header(tensors: int = 0, pairs: bytes = b"", count: int | None = None, infos: bytes = b"") -> bytes:
    count = pairs.count(b"general.") if count is None else count
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, count) + pairs + infos + b"\0" * 64


def array(inner: int, count: int, body: bytes = b"") -> bytes:
    return text("general.x") + struct.pack("<IIQ", 9, inner, count) + body


def info(shape: list[int], kind: int = 0, offset: int = 0) -> bytes:
    return text("w") + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"GGUF",
        b"PK\x03\x04" + b"\0" * 100,
        b"GGUF" + struct.pack("<IQQ", 99, 0, 0),
        b"GGUF" + struct.pack(">IQQ", 3, 0, 0),
        gguf_header(tensors=2**63),
        gguf_header(count=2**63),
        gguf_header(pairs=array(0, 2**60)),  # the package would walk these one by one, past the end
        gguf_header(pairs=array(8, 2**60)),
        gguf_header(pairs=array(9, 2**60)),
        gguf_header(pairs=array(9, 1, struct.pack("<IQ", 9, 1) * 2000)),
        gguf_header(pairs=array(77, 1)),
        gguf_header(pairs=struct.pack("<Q", 2**62) + b"general."),
        gguf_header(pairs=text("general.a") + struct.pack("<I", 8) + struct.pack("<Q", 2**63)),
        gguf_header(pairs=text("general.a") + struct.pack("<II", 77, 1)),
        gguf_header(pairs=(text("general.a") + struct.pack("<II", 4, 1)) * 2),
        gguf_header(pairs=text("general.alignment") + struct.pack("<II", 4, 0)),
        gguf_header(pairs=text("general.alignment") + struct.pack("<II", 4, 33)),
        gguf_header(1, infos=info([2**40])),
        gguf_header(1, infos=info([2**32, 2**32])),  # its product wraps to 0
        gguf_header(1, infos=info([0, 4])),
        gguf_header(1, infos=info([1] * 9)),
        gguf_header(1, infos=info([], 0)),
        gguf_header(1, infos=info([4], 0, 2**60)),
        gguf_header(1, infos=info([4], 999)),
        gguf_header(1, infos=info([5], 2)),  # quantised in blocks of 32
        gguf_header(2, infos=info([4]) * 2),
    ],
)
def test_a_gguf_header_that_does_not_fit_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.gguf").write_bytes(content)
    with pytest.raises(PipelineError, match="Expected a GGUF file at"):
        require_sound(tmp_path / "model.gguf")


def small_gguf(path: Path, width: int = 8, layers: int = 1, heads: int = 2, words: int = 4) -> GGUFReader:
    writer = GGUFWriter(path, "llama")
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(16)
    writer.add_block_count(layers)
    writer.add_head_count(heads)
    writer.add_token_list(["a", "b", "c", "d"][:words])
    writer.add_tensor("token_embd.weight", np.zeros((4, 8), np.float32))
    writer.add_tensor("blk.0.ffn_up.weight", np.zeros((16, 8), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return open_gguf(path)


def test_a_sound_gguf_file_is_read(tmp_path: Path) -> None:
    reader = small_gguf(tmp_path / "m.gguf")
    assert [tensor.name for tensor in reader.tensors] == ["token_embd.weight", "blk.0.ffn_up.weight"]
    require_sizes(reader, "m.gguf")


@pytest.mark.parametrize(
    ("lie", "words"),
    [
        ({"width": 2**31}, "llama.embedding_length of m.gguf to be 8"),
        ({"layers": 2**31}, "llama.block_count of m.gguf to be 1"),
        ({"heads": 0}, "llama.attention.head_count"),
        ({"words": 3}, "Expected 4 tokens in m.gguf"),
    ],
)
def test_sizes_that_the_tensors_do_not_have_are_refused(tmp_path: Path, lie: dict[str, int], words: str) -> None:
    with pytest.raises(PipelineError, match=words):
        require_sizes(small_gguf(tmp_path / "m.gguf", **lie), "m.gguf")


CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 4,
    "num_attention_heads": 2,
    "num_hidden_layers": 1,
    "intermediate_size": 8,
    "vocab_size": 3,
    "tie_word_embeddings": True,
}


def small_model(folder: Path, **changes: Any) -> Path:
    layer = {f"self_attn.{name}_proj": [4, 4] for name in "qkvo"}
    layer |= {"mlp.gate_proj": [8, 4], "mlp.up_proj": [8, 4], "mlp.down_proj": [4, 8]}
    layer |= {"input_layernorm": [4], "post_attention_layernorm": [4]}
    shapes = {f"model.layers.0.{name}.weight": shape for name, shape in layer.items()}
    shapes |= {"model.embed_tokens.weight": [3, 4], "model.norm.weight": [4]}
    header, end = {}, 0
    for name, shape in shapes.items():
        size = 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    (folder / "model.safetensors").write_bytes(safetensors(header, b"\0" * end))
    (folder / "config.json").write_text(json.dumps(CONFIG | changes), encoding="utf-8")
    return folder


def test_a_config_with_the_sizes_of_its_tensors_is_taken(tmp_path: Path) -> None:
    assert check(small_model(tmp_path)) == 184


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hidden_size": 10**9}, "in the shape"),
        ({"num_hidden_layers": 10**9}, "1,000,000,000 layers"),
        ({"vocab_size": 10**12}, "in the shape"),
        ({"intermediate_size": 10**12}, "in the shape"),
        ({"max_position_embeddings": 10**12}, "1,000,000,000,000"),
        ({"num_attention_heads": 0}, "num_attention_heads"),
        ({"hidden_size": "4"}, "hidden_size"),
        ({"architectures": "LlamaForCausalLM"}, "found none"),
        ({"auto_map": {"AutoModelForCausalLM": "evil.Model"}}, "brings its own code"),
    ],
)
def test_a_config_that_lies_is_refused_before_a_model_is_built(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(PipelineError, match=words):
        check(small_model(tmp_path, **changes))


def graph_with(folder: Path, location: str, where: str = "initializer", **place: str) -> Path:
    """A graph of which one tensor lies in the file that `location` names."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, "length": "16", **place}.items():
        tensor.external_data.add(key=key, value=value)
    if where == "initializer":
        graph = helper.make_graph([], "g", [], [], [tensor])
    else:
        node = helper.make_node("Constant", [], ["w"], value=tensor)
        graph = helper.make_graph([node], "g", [], [])
    if where == "branch":
        condition = helper.make_tensor_value_info("c", TensorProto.BOOL, [])
        graph = helper.make_graph(
            [helper.make_node("If", ["c"], ["y"], then_branch=graph, else_branch=graph)], "outer", [condition], []
        )
    path = folder / "model.onnx"
    path.write_bytes(onnx.ModelProto(ir_version=10, graph=graph).SerializeToString())
    return path


@pytest.mark.parametrize("where", ["initializer", "constant", "branch"])
def test_a_graph_reads_weights_beside_it_and_nowhere_else(tmp_path: Path, where: str) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"\0" * 64)
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.onnx.data").write_bytes(b"\0" * 16)
    (folder / "link").symlink_to(secret)
    (folder / "sub").mkdir()
    require_contained(graph_with(folder, "model.onnx.data", where))
    for location in ("../secret", str(secret), "link", "sub/../../secret", "..\\secret", "C:x", "", ".", "sub", "none"):
        with pytest.raises(PipelineError, match="Expected"):
            require_contained(graph_with(folder, location, where))


@pytest.mark.parametrize("place", [{"offset": "4"}, {"offset": "-4"}, {"length": "x"}, {"length": str(2**70)}])
def test_weights_beyond_the_end_of_their_file_are_refused(tmp_path: Path, place: dict[str, str]) -> None:
    (tmp_path / "model.onnx.data").write_bytes(b"\0" * 16)
    with pytest.raises(PipelineError, match=r"run `dvc repro`"):
        require_contained(graph_with(tmp_path, "model.onnx.data", **place))


def test_a_file_that_is_no_graph_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"\xff" * 100)
    with pytest.raises(PipelineError, match="Expected an ONNX graph"):
        require_contained(tmp_path / "model.onnx")
    with pytest.raises(PipelineError, match="no such file"):
        require_contained(tmp_path / "none.onnx")


def wheel_with(folder: Path, name: str, content: bytes = b"x", mode: int = 0, times: int = 1) -> Path:
    path = folder / "demo-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for _ in range(times):
            entry = zipfile.ZipInfo(name)
            entry.external_attr = mode << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    return path


@pytest.mark.parametrize(
    ("name", "mode", "words"),
    [
        ("data/../../outside", 0, "plain paths"),
        ("data/..\\outside", 0, "plain paths"),
        ("data/C:outside", 0, "plain paths"),
        ("data/link", stat.S_IFLNK | 0o777, "a link or a device"),
        ("data/pipe", stat.S_IFIFO | 0o666, "a link or a device"),
    ],
)
def test_a_wheel_with_a_path_that_is_no_plain_file_is_refused(tmp_path: Path, name: str, mode: int, words: str) -> None:
    with pytest.raises(PipelineError, match=words):
        _unpack(wheel_with(tmp_path, name, mode=mode), "data", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_zip_bomb_and_a_repeated_path_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="declared"):
        _unpack(wheel_with(tmp_path, "data/zeros", b"\0" * 10_000_000), "data", tmp_path / "out")
    with pytest.warns(UserWarning, match="Duplicate name"):
        wheel = wheel_with(tmp_path, "data/a", times=2)
    with pytest.raises(PipelineError, match="one twice"):
        _unpack(wheel, "data", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("member", ["../../etc/passwd", "/etc/passwd", "a/../../b", "a\\b", "C:b", ""])
def test_a_source_names_a_path_inside_itself(member: str) -> None:
    with pytest.raises(ValueError, match="plain path"):
        WheelSource(kind="wheel", requirement="demo==1.0", sha256="0" * 64, member=member)


@pytest.mark.parametrize("requirement", ["--index-url==x", "-r==1", "demo==1.0 --pre", "demo==1.0; x", "a/b==1"])
def test_a_requirement_is_never_an_option_of_pip(requirement: str) -> None:
    with pytest.raises(ValueError, match="pattern"):
        WheelSource(kind="wheel", requirement=requirement, sha256="0" * 64, member="a")


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{% for a in range(90000) %}{% for b in range(90000) %}{% endfor %}{% endfor %}", "still at work"),
        ("{{ 'a' * 200000 }}", "add at most"),
        ("{{ 'a' * 10 ** 30 }}", "render a conversation"),
        ("{# " + "x" * 100_000 + " #}", "at most 100,000 characters, found 100,006"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "render a conversation"),
        ("{{ messages.__init__.__globals__ }}", "render a conversation"),
        ("{{ messages.append('x') }}", "render a conversation"),
        ("{% include '/etc/passwd' %}", "render a conversation"),
        ("{% if %}", "render a conversation"),
        ("{{ raise_exception('no\nsystem') }}", "found: no;"),
        ("{{ 1 / 0 }}", "render a conversation"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "render a conversation"),
    ],
)
def test_a_hostile_chat_template_is_one_sentence(
    tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch, template: str, words: str
) -> None:
    monkeypatch.setattr(templates, "TEMPLATE_SECONDS", 0.5)
    monkeypatch.setattr(tokenizer, "chat_template", template)
    with pytest.raises(PipelineError, match=words) as caught:
        encoder_of(tokenizer).chat("Hello")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", [text for name, text in UGLY.items() if name not in ("lone surrogates", "a long line")]
)
def test_a_prompt_is_data_to_a_template(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    for content in (text, text + "{{ 7 * 7 }}{% raw %}"):
        shown = encoder_of(tokenizer).chat_text(content)
        assert shown == f"<|im_start|>user\n{content}<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.chat_template == CHAT_TEMPLATE


ROW = '{"topic": "t", "question": %s, "answer_a": "a", "answer_b": "b", "answer_c": %s, "answer_d": "d", '
ROW += '"correct_answer": "A"}'


@pytest.mark.parametrize(
    ("name", "file", "content"),
    [
        ("do_not_answer", "donotanswer/a.jsonl", "[1]"),
        ("do_not_answer", "donotanswer/a.jsonl", '{"prompt": 5}'),
        ("do_not_answer", "donotanswer/a.jsonl", "[" * 100_000),
        ("do_not_answer", "donotanswer/a.jsonl", "5"),
        ("jailbreak_texts", "inthewild_jailbreak_llms.json", "[[]]"),
        ("jailbreak_texts", "inthewild_jailbreak_llms.json", "3"),
        ("matched_benign", "benign.jsonl", "null"),
        ("matched_benign", "benign.jsonl", '{"group": "g", "text": 7, "pair": "p", "answer": "a"}'),
    ],
)
def test_rows_that_a_dataset_does_not_have_are_one_sentence(tmp_path: Path, name: str, file: str, content: str) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(content, encoding="utf-8")
    kind = {"do_not_answer": "harmful", "jailbreak_texts": "jailbreak", "matched_benign": "benign"}[name]
    source = {"kind": "folder", "path": str(tmp_path)}
    with pytest.raises(PipelineError, match=f"rows of dataset '{name}'|{re.escape(file)}"):
        read_datasets({name: Dataset.model_validate({"kind": kind, "source": source})})


def test_a_question_with_a_blank_option_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows").write_text(ROW % ('"which?"', '" "'), encoding="utf-8")
    with pytest.raises(ValueError, match="a blank option of the question which"):
        require_texts(mmlu.read(tmp_path / "rows"))


@pytest.mark.parametrize(("question", "option"), [("5", '"c"'), ('"q"', "null"), ("[]", '"c"')])
def test_a_question_that_is_no_text_is_one_sentence(tmp_path: Path, question: str, option: str) -> None:
    (tmp_path / "rows").write_text(ROW % (question, option), encoding="utf-8")
    with pytest.raises(PipelineError, match=r"rows line 1, found no text under"):
        require_texts(mmlu.read(tmp_path / "rows"))


def sources() -> dict[str, str]:
    return {
        str(path): path.read_text(encoding="utf-8")
        for room in ("stages", "safety_tax")
        for path in (ROOT / room).rglob("*.py")
    }


@pytest.mark.parametrize(
    "word",
    [
        "trust_remote_code",
        "shell=True",
        "os.system",
        "os.popen",
        "yaml.load(",
        "yaml.unsafe",
        "import pickle",
        "torch.load",
        "allow_pickle",
        "eval(",
        "exec(",
    ],
)
def test_the_code_never_does_this(word: str) -> None:
    pattern = re.compile(r"(?<![\w.])" + re.escape(word))
    assert [path for path, code in sources().items() if pattern.search(code)] == []


def test_no_secret_is_printed_or_written_by_commands_that_fail(tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").write_text("stages: {}\n", encoding="utf-8")
    params = (ROOT / "params.yaml").read_text(encoding="utf-8")
    (tmp_path / "params.yaml").write_text(params, encoding="utf-8")
    environment = {**os.environ, **SECRETS, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")}
    output = ""
    for command in (["fetch_model", "llama31_8b"], ["infer", "smollm2_135m", "base"], ["metrics", "smollm2_135m"]):
        done = subprocess.run(
            [sys.executable, "-m", f"stages.{command[0]}", *command[1:]],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        output += done.stdout + done.stderr
    written = "".join(path.read_text(encoding="utf-8") for path in tmp_path.rglob("*") if path.is_file())
    assert "Expected meta-llama/" in output
    assert not [name for name, secret in SECRETS.items() if secret in output + written]
    assert not [path for path, code in sources().items() if re.search(r"(AWS_SECRET|os\.environ\[.HF_TOKEN)", code)]


def test_no_secret_is_printed_or_written_by_a_whole_run(project: Project) -> None:
    """Neither in dvc.lock, journals, checkpoints, metrics, models, DVC's cache and its notes, nor in the report."""
    assert "Running stage 'metrics@tiny_llama'" in project.told  # which ran with the secrets in its environment
    told = project.run(sys.executable, "-m", "safety_tax.cli", "report", "tiny_llama", secrets=SECRETS)
    files = [path for path in project.folder.rglob("*") if path.is_file()]
    assert {"dvc.lock", "tiny_llama.html", "adapter_config.json"} <= {path.name for path in files}
    contents = {path: path.read_bytes() for path in files}
    assert not [path for path, content in contents.items() if any(s.encode() in content for s in SECRETS.values())]
    assert not [name for name, secret in SECRETS.items() if secret in project.told + told]
