"""A published tokenizer in the pinned version's words: what is rewritten, what is left alone, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from safety_tax.core.errors import PipelineError
from safety_tax.model_files.tokenizer import PLAIN_CLASS, SAMPLE, SETTINGS, WHOLE, load_tokenizer, translate_tokenizer

ROWS = 600


@pytest.fixture
def folder(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> Path:
    """As Transformers saves a tokenizer, with the two inputs that a decoder takes."""
    tokenizer.save_pretrained(tmp_path)
    change(tmp_path, model_input_names=["input_ids", "attention_mask"])
    return tmp_path


def settings(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    return content


def change(folder: Path, **keys: Any) -> None:
    """Other settings; None takes a key out."""
    content = {key: value for key, value in {**settings(folder), **keys}.items() if value is not None}
    (folder / SETTINGS).write_text(json.dumps(content), encoding="utf-8")


def ids(found: Any) -> list[int]:
    return list(found(SAMPLE)["input_ids"])


def test_what_needs_no_translation_keeps_its_bytes(folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert ids(translate_tokenizer(folder, ROWS, "m")) == ids(tokenizer)
    assert before == {file.name: file.read_bytes() for file in folder.iterdir()}


def test_a_class_that_the_pinned_version_lacks_is_the_plain_one(
    folder: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    for named in ("TokenizersBackend", 7):
        change(folder, tokenizer_class=named)
        assert ids(translate_tokenizer(folder, ROWS, "m")) == ids(tokenizer)
        assert settings(folder)["tokenizer_class"] == PLAIN_CLASS


def test_a_list_of_special_tokens_joins_those_that_are_there(folder: Path) -> None:
    end = {"__type": "AddedToken", "content": "<|im_end|>", "special": True}
    change(
        folder,
        additional_special_tokens=["<|im_start|>"],
        extra_special_tokens=["<|im_start|>", end, "<|endoftext|>"],
    )
    found = translate_tokenizer(folder, ROWS, "m")
    assert "extra_special_tokens" not in settings(folder)
    assert settings(folder)["additional_special_tokens"] == ["<|im_start|>", end, "<|endoftext|>"]
    assert found.additional_special_tokens == ["<|im_start|>", "<|im_end|>", "<|endoftext|>"]


def test_it_gives_what_a_decoder_takes(folder: Path) -> None:
    change(folder, model_input_names=["input_ids", "token_type_ids", "attention_mask"])
    assert set(translate_tokenizer(folder, ROWS, "m")(SAMPLE)) == {"input_ids", "attention_mask"}
    change(folder, model_input_names=None)  # the class's own three
    assert set(translate_tokenizer(folder, ROWS, "m")(SAMPLE)) == {"input_ids", "attention_mask"}


@pytest.mark.parametrize(
    ("pad", "rows", "given"),
    [
        (None, ROWS, "<|im_end|>"),  # what ends a turn
        ("<|im_start|>", ROWS, "<|im_start|>"),
        ("<|im_end|>", 2, "<|endoftext|>"),  # the first row, where neither has one
    ],
)
def test_padding_has_a_row_of_the_embeddings(pad: str | None, rows: int, given: str, folder: Path) -> None:
    change(folder, pad_token=pad)
    (folder / "special_tokens_map.json").unlink(missing_ok=True)
    assert translate_tokenizer(folder, rows, "m").pad_token == given
    assert settings(folder)["pad_token"] == given
    assert load_tokenizer(folder, "m").pad_token == given


def test_tokens_are_never_dropped_at_random(folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    """Subword regularisation (BPE dropout) is for training."""
    content = json.loads((folder / WHOLE).read_text(encoding="utf-8"))
    content["model"]["dropout"] = 0.5
    (folder / WHOLE).write_text(json.dumps(content), encoding="utf-8")
    assert len({tuple(ids(load_tokenizer(folder, "m"))) for _ in range(8)}) > 1
    assert ids(translate_tokenizer(folder, ROWS, "m")) == ids(tokenizer)
    assert ids(load_tokenizer(folder, "m")) == ids(tokenizer)


def test_a_linked_file_of_a_cache_stays_as_it_is(folder: Path, tmp_path: Path) -> None:
    change(folder, tokenizer_class="TokenizersBackend")
    (tmp_path / "cache").mkdir()
    cached = (folder / SETTINGS).rename(tmp_path / "cache" / SETTINGS)
    (folder / SETTINGS).symlink_to(cached)
    before = cached.read_bytes()
    translate_tokenizer(folder, ROWS, "m")
    assert cached.read_bytes() == before
    assert not (folder / SETTINGS).is_symlink() and settings(folder)["tokenizer_class"] == PLAIN_CLASS


@pytest.mark.parametrize(
    ("files", "found", "step"),
    [
        ({WHOLE: "{"}, "builds, found ", "choose a commit whose tokenizer the pinned Transformers loads"),
        ({WHOLE: "{}"}, "builds, found ", "choose a commit whose tokenizer the pinned Transformers loads"),
        ({WHOLE: None}, f"found no {WHOLE}, and ", f"choose a commit that has a {WHOLE}"),
        ({WHOLE: None, "tokenizer.model": "x"}, f"found no {WHOLE}, and ", "convert its tokenizer.model once"),
    ],
)
def test_what_cannot_be_built_is_one_sentence_with_its_next_step(
    files: dict[str, str | None], found: str, step: str, folder: Path
) -> None:
    for name, content in files.items():
        if content is None:
            (folder / name).unlink()
        else:
            (folder / name).write_text(content, encoding="utf-8")
    with pytest.raises(PipelineError) as raised:
        load_tokenizer(folder, "m")
    said = str(raised.value)
    assert said.startswith("Expected a tokenizer of 'm' that the pinned Transformers builds, found ")
    assert found in said and step in said and "\n" not in said
