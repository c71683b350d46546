"""A model's files as mergekit, a newer Transformers or the Hub has them: loaded rightly, or refused when fetched."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from conftest import ARCHITECTURES, ROOT, SIZES, stored_as
from safetensors.torch import load_file, save_file
from test_sources import model_from
from tokenizers import Tokenizer
from tokenizers.models import BPE
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from safety_tax.checkup.files import check_files
from safety_tax.core.errors import PipelineError
from safety_tax.core.rows import ChatPrompt
from safety_tax.core.tensor_files import Checkpoint
from safety_tax.donors.checks import require_same_vocabulary
from safety_tax.donors.tuning_rows import TuningRow, require_embedded
from safety_tax.engine.item_checks import Faults, Reach, check_rows
from safety_tax.model_files.bringing import bring, check, check_tokenizer, give_template, give_type
from safety_tax.model_files.config import translated
from safety_tax.model_files.embedding_rows import give_padding
from safety_tax.model_files.gate import settle_donor

Change = Callable[[Path], None]
CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "tie_word_embeddings": False, **SIZES}
LEFT_OUT = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
GATE = "model.layers.0.mlp.up_proj.weight"


def in_json(name: str, **keys: Any) -> Change:
    """Other values in a JSON file; `...` takes a key out."""

    def change(folder: Path) -> None:
        content = json.loads((folder / name).read_text(encoding="utf-8")) | keys
        content = {key: value for key, value in content.items() if value is not ...}
        (folder / name).write_text(json.dumps(content), encoding="utf-8")

    return change


def config(**keys: Any) -> Change:
    return in_json("config.json", **keys)


def tensors(change: Callable[[dict[str, torch.Tensor]], Any]) -> Change:
    def apply(folder: Path) -> None:
        found = load_file(folder / "model.safetensors")
        change(found)
        save_file(found, folder / "model.safetensors", metadata={"format": "pt"})

    return apply


@pytest.fixture
def source(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> Path:
    """A two-layer Llama with tied embeddings, as Transformers saves it."""
    torch.manual_seed(0)
    ARCHITECTURES["tiny_llama"]().save_pretrained(tmp_path / "source")
    tokenizer.save_pretrained(tmp_path / "source")
    return tmp_path / "source"


def fetched(source: Path) -> Path:
    """What fetch_model makes of the folder, which it leaves as it was."""
    folder = source.parent / "fetched"
    folder.mkdir()
    before = {file.name: file.read_bytes() for file in source.iterdir() if file.exists()}
    bring(model_from(source), folder)
    give_template("own", folder)
    check(folder, "m")
    check_tokenizer(folder, "m")
    assert before == {file.name: file.read_bytes() for file in source.iterdir()}
    return folder


def logits(folder: Path) -> torch.Tensor:
    """By the plain idiom of whoever loads the folder; answers are generated, too."""
    inputs = AutoTokenizer.from_pretrained(folder)("What is 12 + 3?", return_tensors="pt")
    assert set(inputs) == {"input_ids", "attention_mask"}
    network = AutoModelForCausalLM.from_pretrained(folder).eval()
    network.generate(**inputs, max_new_tokens=2)
    with torch.inference_mode():
        found: torch.Tensor = network(**inputs).logits
    return found


def add_padding(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.save_pretrained(folder)
    config(pad_token_id=len(tokenizer) - 1)(folder)


def marked(*names: str) -> Change:
    """Byte-order marks, as editors on Windows put them before a text."""

    def change(folder: Path) -> None:
        for name in names or [file.name for file in folder.glob("*.json")]:
            (folder / name).write_bytes(b"\xef\xbb\xbf" + (folder / name).read_bytes())

    return change


def in_processor(folder: Path) -> None:
    """The template where models that see have it."""
    template = (folder / "chat_template.jinja").read_text(encoding="utf-8")
    (folder / "chat_template.jinja").unlink()
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": template}), encoding="utf-8")


def old_sampling(folder: Path) -> None:
    """As Llama-2's first files have it; Transformers refuses to save such settings."""
    (folder / "generation_config.json").unlink()
    config(temperature=0.9, top_p=0.6)(folder)


def within(prefix: str) -> Change:
    return tensors(lambda found: [found.update({f"{prefix}{name}": found.pop(name)}) for name in list(found)])


NEW_TOKENIZER = in_json(
    "tokenizer_config.json",
    tokenizer_class="TokenizersBackend",
    backend="tokenizers",
    extra_special_tokens=["<|im_start|>"],
)
HEAD = tensors(lambda found: found.update({"lm_head.weight": found["model.embed_tokens.weight"].clone()}))
ANGLES = tensors(lambda found: found.update({"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8)}))
LOADED: dict[str, Change] = {
    "as it is": lambda folder: None,
    "no generation_config.json": lambda folder: (folder / "generation_config.json").unlink(),
    "a tokenizer class of Transformers 5": NEW_TOKENIZER,
    "consolidated.safetensors beside": lambda folder: (
        shutil.copyfile(folder / "model.safetensors", folder / "consolidated.safetensors") and None
    ),
    "tables of angles": ANGLES,
    "a head that repeats tied embeddings": HEAD,
    "pickles beside": lambda folder: (folder / "training_args.bin").write_bytes(b"x") and None,
    "an adapter's settings beside": lambda folder: (folder / "adapter_config.json").write_text("{}") and None,
    "padding without a row": add_padding,
    "no architectures": config(architectures=...),
    "a stray window": config(sliding_window=4),
    "rope_parameters": config(rope_theta=..., rope_parameters={"rope_type": "default", "rope_theta": 10000.0}),
    "byte-order marks": marked(),
    "a chat template for processors": in_processor,
    "sampling in config.json": old_sampling,
    "a type with the module's name": config(torch_dtype="torch.float32", dtype=...),
    "the type left open": config(torch_dtype="auto", dtype=...),
    "an empty rope_scaling": config(rope_scaling={}),
    "an empty quantization_config": config(quantization_config={}),
    "padding by -1": config(pad_token_id=-1),
    "metadata without a format": lambda folder: save_file(
        load_file(folder / "model.safetensors"), folder / "model.safetensors", metadata={"total_size": "1"}
    ),
    "flash attention asked for": config(attn_implementation="flash_attention_2", output_attentions=True),
}


@pytest.mark.parametrize("change", LOADED.values(), ids=LOADED)
def test_what_is_loaded_computes_what_the_model_computes(source: Path, change: Change) -> None:
    expected = logits_of_weights(source)
    change(source)
    folder = fetched(source)
    torch.testing.assert_close(logits(folder), expected, rtol=0, atol=0)
    template = (folder / "chat_template.jinja").read_text(encoding="utf-8")
    assert template.startswith("{%") and template.count("{{ message['content'] }}") == 1


def logits_of_weights(folder: Path) -> torch.Tensor:
    ids = AutoTokenizer.from_pretrained(folder)("What is 12 + 3?", return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        found: torch.Tensor = LlamaForCausalLM.from_pretrained(folder).eval()(ids).logits
    return found


def only_sentencepiece(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.model").write_bytes(b"\n\x0e\n\x05<unk>\x15\x00\x00\x00\x00\x18\x02")
    in_json("tokenizer_config.json", tokenizer_class="LlamaTokenizer")(folder)


def new_token_in_template(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|x|>"]})
    tokenizer.chat_template = "<|x|>" + tokenizer.chat_template
    tokenizer.save_pretrained(folder)


REFUSED: dict[str, tuple[Change, str]] = {
    "only tokenizer.model": (only_sentencepiece, "pip install sentencepiece"),
    "a head beside tied embeddings that differs": (
        tensors(lambda found: found.update({"lm_head.weight": found["model.embed_tokens.weight"] + 1})),
        "set tie_word_embeddings to false",
    ),
    "no head where none is tied": (config(tie_word_embeddings=...), "set tie_word_embeddings to true"),
    "consolidated.safetensors alone": (
        lambda folder: shutil.move(folder / "model.safetensors", folder / "consolidated.safetensors") and None,
        r"found consolidated\.safetensors, which Transformers does not load",
    ),
    "FP8": (tensors(lambda found: found.update({GATE: found[GATE].to(torch.float8_e4m3fn)})), "F8_E4M3.*quantised"),
    "GPTQ": (
        tensors(lambda found: found.update({GATE.replace("weight", "qweight"): torch.zeros(4, dtype=torch.int32)})),
        "GPTQ",
    ),
    "bitsandbytes": (
        config(quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True}),
        r"bitsandbytes in 4 bits \(quantization_config",
    ),
    "a compiler's prefix": (
        tensors(lambda found: [found.update({f"_orig_mod.{name}": found.pop(name)}) for name in list(found)]),
        "torch.compile",
    ),
    "DistributedDataParallel's prefix": (within("module."), r"without `module\.`"),
    "TRL's prefix": (within("pretrained_model."), r"without `pretrained_model\.`"),
    "a value head": (
        tensors(lambda found: found.update({"v_head.summary.weight": torch.zeros(1, 64)})),
        r"found \(1, 64\); .* save the model without it",
    ),
    "an adapter within": (
        tensors(lambda found: found.update({GATE.replace("weight", "lora_A.default.weight"): torch.zeros(2, 64)})),
        "merge_and_unload",
    ),
    "no number": (config(rope_theta=float("nan")), "found rope_theta = nan"),
    "weights that Git LFS left out": (
        lambda folder: (folder / "model.safetensors").write_bytes(LEFT_OUT) and None,
        r"found a pointer of Git LFS in its place; run `git lfs pull`",
    ),
    "a tokenizer that Git LFS left out": (
        lambda folder: (folder / "tokenizer.json").write_bytes(LEFT_OUT) and None,
        r"tokenizer.json itself, found a pointer of Git LFS",
    ),
    "a snapshot without what its links lead to": (
        lambda folder: (folder / "tokenizer.model").symlink_to("../../blobs/abc"),
        r"found tokenizer.model, a link to ../../blobs/abc, which is not there; .*cp -rL",
    ),
    "a mark of a merge that Git left": (
        lambda folder: (folder / "config.json").write_text("<<<<<<< HEAD\n{}") and None,
        r"found none \(Expecting value: line 1 column 1",
    ),
    "UTF-16": (
        lambda folder: (folder / "config.json").write_text("{}", encoding="utf-16") and None,
        "found UTF-16; save the file as UTF-8",
    ),
    "a chat template of parts": (
        lambda folder: (
            (folder / "chat_template.jinja").write_text(
                "{% for m in messages %}{% for p in m.content %}{{ p.text }}{% endfor %}{% endfor %}assistant:"
            )
            and None
        ),
        "to write what the user says, found a prompt without it",
    ),
    "a missing tensor": (tensors(lambda found: found.pop(GATE.replace("0", "1"))), "up_proj.weight.*found none"),
    "another number of heads": (config(num_key_value_heads=3), r"k_proj.weight of 'm' in the shape \(48, 64\)"),
    "an activation that nobody knows": (config(hidden_act="evil"), "builds a network, found: 'evil'"),
    "another model_type": (config(model_type="mistral"), "by which Transformers chooses the network"),
    "a chat template with a token that has no row": (new_token_in_template, r"'<\|x\|>' with the id 600"),
    "no chat template": (lambda folder: (folder / "chat_template.jinja").unlink(), "name one of data/chat_templates"),
    "generation settings that are none": (in_json("generation_config.json", max_new_tokens=-5), "max_new_tokens"),
}


@pytest.mark.parametrize(("change", "words"), REFUSED.values(), ids=REFUSED)
def test_what_would_fail_later_is_refused_when_it_is_fetched(source: Path, change: Change, words: str) -> None:
    change(source)
    with pytest.raises(PipelineError, match=words) as caught:
        fetched(source)
    assert str(caught.value).startswith("Expected") and str(source.parent / "fetched") not in str(caught.value)


def test_the_class_default_decides_where_a_key_is_absent(source: Path) -> None:
    assert translated({**CONFIG, "tie_word_embeddings": None}, "m")["tie_word_embeddings"] is False


def test_shards_without_their_index_get_one_and_a_missing_one_is_named(source: Path) -> None:
    network, expected = AutoModelForCausalLM.from_pretrained(source), logits_of_weights(source)
    (source / "model.safetensors").unlink()
    network.save_pretrained(source, max_shard_size="200KB")
    (source / "model.safetensors.index.json").unlink()
    torch.testing.assert_close(logits(fetched(source)), expected, rtol=0, atol=0)
    (source / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(PipelineError, match="found no number 2 of 3"):
        bring(model_from(source), source.parent / "fetched")


LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 256}
ROTATIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "theta": ({"rope_type": "default", "rope_theta": 500000}, {"rope_theta": 500000}),
    "theta of every layer": ({"full_attention": {"rope_type": "default", "rope_theta": 5e5}}, {"rope_theta": 5e5}),
    "llama3": (
        {"rope_type": "llama3", "rope_theta": 5e5, **LLAMA3},
        {"rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3", **LLAMA3}},
    ),
    "linear": ({"type": "linear", "factor": 2.0}, {"rope_scaling": {"rope_type": "linear", "factor": 2.0}}),
}


@pytest.mark.parametrize(
    ("key", "written", "read"),
    [
        pytest.param(key, written, read, id=f"{key} {name}")
        for name, (written, read) in ROTATIONS.items()
        for key in ("rope_parameters", "rope_scaling")
        if key == "rope_parameters" or "full_attention" not in written  # only the newer key is nested
    ],
)
def test_the_rotation_of_a_newer_transformers_is_the_pinned_ones(
    key: str, written: dict[str, Any], read: dict[str, Any]
) -> None:
    found = LlamaConfig(**translated({**CONFIG, key: written}, "m"))
    expected = LlamaConfig(**CONFIG, **read)
    ours, theirs = (LlamaForCausalLM(made).model.rotary_emb for made in (found, expected))
    assert torch.equal(ours.inv_freq, theirs.inv_freq) and ours.attention_scaling == theirs.attention_scaling


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"rope_parameters": {"rope_type": "proportional", "rope_theta": 1e6}}, "'proportional'"),
        (
            {"rope_parameters": {"rope_theta": 1e6, "rope_type": "default", "partial_rotary_factor": 0.5}},
            "partial_rotary",
        ),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}, "rope_theta": 1e4}, "two different values"),
        (
            {"rope_parameters": {"full_attention": {"rope_theta": 1e6}, "sliding_attention": {"rope_theta": 1e4}}},
            "one for each of full_attention, sliding_attention",
        ),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 2.0, "alpha": 3}}, "'alpha'"),
        ({"attention_multiplier": 0.5}, "attention_multiplier"),
        ({"final_logit_softcapping": 30.0}, "final_logit_softcapping"),
        ({"no_rope_layers": [1, 0]}, "no_rope_layers"),
        ({"per_layer_config": {"0": {}}}, "per_layer_config"),
        ({"layer_types": ["full_attention", "sliding_attention"], "sliding_window": 4}, "layer_types"),
    ],
)
def test_a_key_that_decides_results_unread_is_refused(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(PipelineError, match=words):
        translated({**CONFIG, **keys}, "config.json of 'm'")


def test_keys_of_who_saved_the_file_are_no_reason() -> None:
    keys = {"is_llama_config": True, "rope_interleaved": False, "transformers.js_config": {}, "unsloth_version": "1"}
    keys |= {"_name_or_path": "x", "use_mrope": False, "mlp_bias": False, "attn_logit_softcapping": None}
    assert translated({**CONFIG, **keys}, "m")["vocab_size"] == 600


def test_longrope_keeps_its_switch_and_its_scale() -> None:
    rope = {"rope_type": "longrope", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 512}
    rope |= {"short_factor": [1.0] * 8, "long_factor": [2.0] * 8}
    found = translated({**CONFIG, "rope_parameters": rope}, "m")
    assert found["original_max_position_embeddings"] == 512
    assert found["rope_scaling"]["attention_factor"] == pytest.approx(1.10554, abs=1e-5)  # √(1 + ln 4 / ln 512)


def test_a_full_donor_is_translated_as_the_base_is(source: Path) -> None:
    ANGLES(source)
    config(rope_theta=..., rope_parameters={"rope_type": "default", "rope_theta": 5e5})(source)
    settle_donor(source, "safety")
    assert json.loads((source / "config.json").read_text(encoding="utf-8"))["rope_theta"] == 5e5
    assert not [name for name in load_file(source / "model.safetensors") if "inv_freq" in name]
    config(logit_scale=3.0)(source)
    with pytest.raises(PipelineError, match=r"'logit_scale' = '3\.0'"):
        settle_donor(source, "safety")


def test_a_donors_padding_without_a_row_is_no_other_vocabulary(source: Path, tmp_path: Path) -> None:
    shutil.copytree(source, tmp_path / "donor")
    add_padding(tmp_path / "donor")
    require_same_vocabulary(source, tmp_path / "donor")
    content = json.loads((tmp_path / "donor/tokenizer.json").read_text(encoding="utf-8"))
    content["model"]["vocab"]["a"], content["model"]["vocab"]["b"] = (content["model"]["vocab"][x] for x in "ba")
    (tmp_path / "donor/tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(PipelineError, match="found token 'a'"):
        require_same_vocabulary(source, tmp_path / "donor")


def test_padding_without_a_row_is_replaced_where_rows_are_padded(source: Path) -> None:
    add_padding(source)
    tokenizer = AutoTokenizer.from_pretrained(source)
    assert tokenizer.pad_token_id == 600
    give_padding(tokenizer, 600)
    assert tokenizer.pad_token_id == tokenizer.eos_token_id == 2


def test_an_item_with_a_token_without_a_row_is_named() -> None:
    item = ChatPrompt(id="p1", benchmark="b", kind="harmful", group="g", split="eval", text="t")
    faults, reach = Faults(), Reach(2048, None, 600)
    check_rows([[1, 599]], [item], str, reach, faults)
    faults.require_none()
    check_rows([[1, 600]], [item], str, reach, faults)
    with pytest.raises(PipelineError, match=r"tokens below 600, .* with the id 600 in the harmful item p1"):
        faults.require_none()
    row = TuningRow([1, 2], [600])
    with pytest.raises(PipelineError, match="with the id 600 in the harmful tuning row p1"):
        require_embedded([item], [row], cast(Any, PreTrainedTokenizerFast(tokenizer_object=Tokenizer(BPE()))), 600)


def test_doctor_says_of_a_folder_what_fetch_model_would(source: Path) -> None:
    assert check_files("m", source, "own") == []
    before = {file.name: file.read_bytes() for file in source.iterdir()}
    assert check_files("safety", source, None) == []
    assert before == {file.name: file.read_bytes() for file in source.iterdir()}
    config(rope_parameters={"rope_type": "proportional"})(source)
    for template in ("own", None):
        (finding,) = check_files("m", source, template)
        assert finding.step is not None and "'proportional'" in finding.step


def test_no_bar_of_transformers_in_a_log(source: Path) -> None:
    AutoModelForCausalLM.from_pretrained(source).save_pretrained(source, max_shard_size="200KB")
    (source / "model.safetensors").unlink(missing_ok=True)
    load = f"import stages, transformers as t; t.AutoModelForCausalLM.from_pretrained({str(source)!r})"
    told = subprocess.run([sys.executable, "-c", load], cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout + told.stderr == ""


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_checkpoint_of_another_type_is_stored_once_in_its_entrys(
    dtype: str, tiny_models: dict[str, Path], tmp_path: Path
) -> None:
    """bfloat16, as most are published; a number of it is one of float32, and of float16 unless it is tiny."""
    folder = stored_as(tiny_models["tiny_llama"], tmp_path / "model", "bfloat16", 100_000)
    source = {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}
    config(torch_dtype="bfloat16")(folder)
    hub = tmp_path / "hub"
    shutil.copytree(folder, hub, copy_function=os.link)  # as files of the Hub's cache are put there
    before = {file.name: file.read_bytes() for file in hub.iterdir()}
    give_type(dtype, folder, "m")
    check(folder)
    stored = Checkpoint(folder)
    assert stored.names() == sorted(source)
    for name, tensor in source.items():
        assert stored.dtype(name) == np.dtype(dtype)
        np.testing.assert_array_equal(stored.read(name), tensor.to(getattr(torch, dtype)).numpy())
    assert json.loads((folder / "config.json").read_text(encoding="utf-8"))["torch_dtype"] == dtype
    assert {file.name: file.read_bytes() for file in hub.iterdir()} == before
    assert not [file for file in folder.iterdir() if file.name.startswith(".")]
    again = {file.name: file.stat().st_ino for file in folder.iterdir()}
    give_type(dtype, folder, "m")
    assert {file.name: file.stat().st_ino for file in folder.iterdir()} == again


def test_a_number_too_large_for_the_entrys_type_is_one_sentence(tiny_models: dict[str, Path], tmp_path: Path) -> None:
    folder = stored_as(tiny_models["tiny_llama"], tmp_path / "model", "bfloat16", 10**9)
    tensors(lambda found: found["model.norm.weight"].__setitem__(3, 1e5))(folder)
    with pytest.raises(PipelineError, match=r"weights that float16 can hold in 'm', found larger ones in model\.norm"):
        give_type("float16", folder, "m")
    give_type("float32", folder, "m")
