"""A GGUF file -> the same model as safetensors with a correct tokenizer.

Transformers reads weights and config of a GGUF file rightly, but rebuilds a wrong tokenizer for the
`smollm` pre-tokenizer (other special tokens, digits not split): the tokenizer is built here, from the
file's own vocabulary and merges.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import gguf
import torch
from gguf import GGUFReader, TokenType
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from safety_tax.core.errors import PipelineError
from safety_tax.sources.gguf_header import open_gguf


def convert(file: Path, folder: Path, dtype: torch.dtype) -> None:
    """Write the model of `file` into `folder` in the Hub's layout.

    Raises PipelineError for a damaged file, and for one that Transformers would misread: scaled rotary embeddings, or
    a pre-tokenizer other than `smollm`.
    """
    reader = open_gguf(file)
    architecture = _value(reader, "general.architecture")
    scaled = [name for name in reader.fields if name.startswith(f"{architecture}.rope.scaling")]
    if scaled:
        raise PipelineError(
            f"Expected plain rotary embeddings in {file.name}, found {scaled[0]}, which is not carried over; "
            "use the model's safetensors instead."
        )
    require_sizes(reader, file.name)
    with _read_already(reader):
        model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=dtype)
    tokenizer = build_tokenizer(reader, file.name, model.config.max_position_embeddings)
    assert model.generation_config is not None  # a causal language model has one
    for config in (model.config, model.generation_config):
        config.bos_token_id = tokenizer.bos_token_id
        config.eos_token_id = tokenizer.eos_token_id
        config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@contextmanager
def _read_already(reader: GGUFReader) -> Iterator[None]:
    """Let Transformers do once what it would do again and again: read the vocabulary, and name the tensors."""
    own = {"GGUFReader": gguf.GGUFReader, "get_tensor_name_map": gguf.get_tensor_name_map}
    once = {"GGUFReader": lambda path: reader, "get_tensor_name_map": cache(gguf.get_tensor_name_map)}
    try:
        for name, function in once.items():
            setattr(gguf, name, function)
        yield
    finally:
        for name, function in own.items():
            setattr(gguf, name, function)


def require_sizes(reader: GGUFReader, name: str) -> None:
    """The gate before memory is taken: the sizes in the metadata are those of the tensors. Raises PipelineError."""
    architecture = _value(reader, "general.architecture")
    tensors = {tensor.name: [int(size) for size in tensor.shape] for tensor in reader.tensors}
    width, words = (tensors.get("token_embd.weight") or [0, 0])[:2]
    inner = (tensors.get("blk.0.ffn_up.weight") or [0, 0])[1]
    layers = len({tensor.split(".")[1] for tensor in tensors if tensor.startswith("blk.")})
    heads = _value(reader, f"{architecture}.attention.head_count")
    found = {
        f"{architecture}.embedding_length": width,
        f"{architecture}.feed_forward_length": inner,
        f"{architecture}.block_count": layers,
        f"{architecture}.attention.head_count": heads if isinstance(heads, int) and 0 < heads <= width else 1,
    }
    if reader.get_field(f"{architecture}.vocab_size") is not None:
        found[f"{architecture}.vocab_size"] = words
    for key, size in found.items():
        if _value(reader, key) != size:
            raise PipelineError(
                f"Expected {key} of {name} to be {size:,}, as its tensors are, found {_value(reader, key)!r}; "
                "use another conversion."
            )
    if len(_value(reader, "tokenizer.ggml.tokens")) != words:
        raise PipelineError(
            f"Expected {words:,} tokens in {name}, as its embeddings are, found "
            f"{len(_value(reader, 'tokenizer.ggml.tokens')):,}; use another conversion."
        )


def build_tokenizer(reader: GGUFReader, name: str, context: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE as the file's `smollm` pre-tokenizer means it: single digits, no prefix space, no BOS.

    Raises PipelineError when the file has another pre-tokenizer, or a vocabulary that does not hold together.
    """
    pre_tokenizer = _value(reader, "tokenizer.ggml.pre")
    if pre_tokenizer != "smollm":
        raise PipelineError(
            f"Expected the pre-tokenizer 'smollm' in {name}, found {pre_tokenizer!r}; "
            "use the model's safetensors and tokenizer.json instead."
        )
    tokens = _value(reader, "tokenizer.ggml.tokens")
    merges = [tuple(merge.split(" ")) for merge in _value(reader, "tokenizer.ggml.merges")]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    types = _value(reader, "tokenizer.ggml.token_type")
    ends = [_value(reader, f"tokenizer.ggml.{role}_token_id") for role in ("bos", "eos")]
    whole = len(vocabulary) == len(types) == len(tokens) and all(0 <= end < len(tokens) for end in ends)
    parts = {part for merge in merges for part in (*merge, "".join(merge))}
    if not whole or any(len(merge) != 2 for merge in merges) or not parts <= vocabulary.keys():
        raise PipelineError(
            f"Expected a vocabulary in {name} that holds together, found tokens, types, merges or end tokens that do "
            "not fit each other; use the model's safetensors and tokenizer.json instead."
        )
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, fuse_unk=False))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    control = [token for token, kind in zip(tokens, types, strict=True) if kind == TokenType.CONTROL]
    backend.add_special_tokens([AddedToken(token, normalized=False) for token in control])
    bos, eos = (tokens[end] for end in ends)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=bos,
        eos_token=eos,
        pad_token=eos,
        chat_template=_value(reader, "tokenizer.chat_template"),
        clean_up_tokenization_spaces=False,
        add_bos_token=False,
        model_max_length=context,
    )


def _value(reader: GGUFReader, key: str):  # type: ignore[no-untyped-def]  # GGUF values have no static type
    field = reader.get_field(key)
    if field is None:
        raise PipelineError(f"Expected the key {key} in the GGUF file, found none; use another conversion.")
    return field.contents()
