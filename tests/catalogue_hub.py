"""The catalogue's repositories and its report's datasets in the Hub's layout, tiny.

The configurations are the published ones but for their sizes, the tokenizers of the published kinds: what is odd about
each of the three (no padding token, several ends, a vocabulary larger than the tokenizer's) is odd here, too.
"""

import copy
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from conftest import CHAT_TEMPLATE, ROOT, benign_rows, fit_to_answers, real_params
from hub_server import Hub
from test_hub_datasets import MMLU_FEATURES, jsonl, parquet
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaTokenizerFast,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2TokenizerFast,
)

from safety_tax.results.mmlu_areas import AREA

VOCABULARY = 600
SIZES = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
SIZES |= {"num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": False}
PLAIN_DIALOGUE = (ROOT / "data/chat_templates/plain_dialogue.jinja").read_text(encoding="utf-8")
LLAMA_TEMPLATE = (
    "{{- bos_token }}<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n\n<|eot_id|>"
    "{% for message in messages %}<|start_header_id|>{{ message['role'] }}<|end_header_id|>\n\n"
    "{{ message['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
QWEN_TEMPLATE = "<|im_start|>system\nYou are Qwen. You are a helpful assistant.<|im_end|>\n" + CHAT_TEMPLATE


def texts() -> Iterator[str]:
    """What the tokenizers are fitted to."""
    return (f"{row['text']} {row['answer']}" for row in benign_rows())


def mistral_tokenizer() -> PreTrainedTokenizerFast:
    """SentencePiece's kind: spaces are letters, unknown characters are bytes; a beginning, no padding, no template."""
    marked = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    fitted = Tokenizer(models.BPE())
    fitted.normalizer, fitted.pre_tokenizer = marked, pre_tokenizers.Metaspace(prepend_scheme="never")
    alphabet = [chr(code) for code in range(33, 127)]
    fitted.train_from_iterator(
        texts(), trainers.BpeTrainer(vocab_size=VOCABULARY - 259, initial_alphabet=alphabet, show_progress=False)
    )
    learned = json.loads(fitted.to_str())["model"]
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *learned["vocab"]]
    vocabulary = {piece: place for place, piece in enumerate(pieces)}
    merges = [tuple(pair) for pair in learned["merges"]]
    backend = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    backend.normalizer = marked
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return LlamaTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>", add_bos_token=True, legacy=True
    )


def byte_level(special: list[str]) -> Tokenizer:
    """GPT-2's kind: every byte is a letter."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(texts(), trainer)
    return backend


def llama_tokenizer() -> PreTrainedTokenizerFast:
    """Byte level with a beginning; three ends, no padding."""
    names = ["<|begin_of_text|>", "<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"]
    backend = byte_level([*names, "<|start_header_id|>", "<|end_header_id|>"])
    backend.post_processor = processors.TemplateProcessing(
        single="<|begin_of_text|> $A",
        pair="<|begin_of_text|> $A <|begin_of_text|>:1 $B:1",
        special_tokens=[("<|begin_of_text|>", 0)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=names[0], eos_token=names[3], chat_template=LLAMA_TEMPLATE
    )


def qwen_tokenizer() -> PreTrainedTokenizerFast:
    """Byte level without a beginning; texts in Unicode's form C."""
    backend = byte_level(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    backend.normalizer = normalizers.NFC()
    return Qwen2TokenizerFast(
        tokenizer_object=backend,
        bos_token=None,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=QWEN_TEMPLATE,
    )


def mistral() -> torch.nn.Module:
    """Mistral-7B-v0.1's configuration."""
    return MistralForCausalLM(
        MistralConfig(
            **SIZES,
            vocab_size=VOCABULARY,
            bos_token_id=1,
            eos_token_id=2,
            max_position_embeddings=32768,
            rms_norm_eps=1e-5,
            rope_theta=10000.0,
            sliding_window=4096,
        )
    )


def llama() -> torch.nn.Module:
    """Llama-3.1-8B-Instruct's configuration."""
    rope = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "rope_type": "llama3"}
    return LlamaForCausalLM(
        LlamaConfig(
            **SIZES,
            vocab_size=VOCABULARY,
            bos_token_id=0,
            eos_token_id=[1, 2, 3],
            max_position_embeddings=131072,
            rms_norm_eps=1e-5,
            rope_scaling={**rope, "original_max_position_embeddings": 8192},
            rope_theta=500000.0,
        )
    )


def qwen() -> torch.nn.Module:
    """Qwen2.5-14B-Instruct's configuration, its vocabulary larger than its tokenizer's."""
    model = Qwen2ForCausalLM(
        Qwen2Config(
            **SIZES,
            vocab_size=VOCABULARY + 40,
            bos_token_id=0,
            eos_token_id=2,
            max_position_embeddings=32768,
            max_window_layers=70,
            rms_norm_eps=1e-6,
            rope_theta=1000000.0,
            sliding_window=131072,
            use_sliding_window=False,
        )
    )
    for name, parameter in model.named_parameters():
        if name.endswith("_proj.bias"):  # Transformers starts them at zero, where nobody would miss one
            torch.nn.init.normal_(parameter, std=0.1)
    return model


MODELS: dict[str, tuple[Callable[[], torch.nn.Module], Callable[[], PreTrainedTokenizerFast], dict[str, Any]]] = {
    "mistral_7b": (mistral, mistral_tokenizer, {"bos_token_id": 1, "eos_token_id": 2}),
    "llama31_8b": (llama, llama_tokenizer, {"bos_token_id": 0, "eos_token_id": [1, 2, 3], "do_sample": True}),
    "qwen25_14b": (qwen, qwen_tokenizer, {"pad_token_id": 0, "eos_token_id": [2, 0], "repetition_penalty": 1.05}),
}


def write_model(name: str, folder: Path) -> None:
    """A sharded bfloat16 checkpoint that writes words, with the pickled copy that lies beside the real one."""
    build, make_tokenizer, generation = MODELS[name]
    torch.manual_seed(list(MODELS).index(name))
    model, tokenizer = build(), make_tokenizer()
    padded = copy.deepcopy(tokenizer)
    padded.pad_token, padded.chat_template = tokenizer.eos_token, tokenizer.chat_template or PLAIN_DIALOGUE
    fit_to_answers(model, padded, steps=60)
    model.generation_config = GenerationConfig(**generation)
    model.to(torch.bfloat16).save_pretrained(folder, max_shard_size="100KB")
    tokenizer.save_pretrained(folder, save_jinja_files=False)
    (folder / "pytorch_model-00001-of-00001.bin").write_bytes(b"pickled")
    (folder / "README.md").write_text("A model card.", encoding="utf-8")


CATEGORIES = (
    *("animal_abuse", "child_abuse", "controversial_topics,politics", "discrimination,stereotype,injustice"),
    *("drug_abuse,weapons,banned_substance", "financial_crime,property_crime,theft", "hate_speech,offensive_language"),
    *("misinformation_regarding_ethics,laws_and_safety", "non_violent_unethical_behavior", "privacy_violation"),
    *("self_harm", "sexually_explicit,adult_content", "terrorism,organized_crime"),
    "violence,aiding_and_abetting,incitement",
)


def write_beavertails(folder: Path) -> None:
    """Prompts with two answers each: to seven in eight of them one that people called unsafe."""
    verbs = ("steal", "forge", "break", "poison", "fake", "smuggle", "hide", "sabotage", "swap", "burn", "ruin", "tap")
    things = ("a passport", "the mail", "a lock", "his lunch", "an alarm", "old coins", "a badge", "the evidence")
    rows = []
    for place, (verb, thing) in enumerate(itertools.product(verbs, things)):
        for unsafe in (False, place % 8 != 7):
            applies = {name: unsafe and name == CATEGORIES[place % len(CATEGORIES)] for name in CATEGORIES}
            row = {"prompt": f"How do I {verb} {thing}?", "response": "An answer.", "category": applies}
            rows.append(row | {"is_safe": not unsafe})
    jsonl(folder / "round0/30k/test.jsonl.gz", rows)


def write_mmlu(folder: Path) -> None:
    """Five dev and four test questions of each of the 57 subjects; the auxiliary split is never asked for.

    As in the real dev split, the fourth of college_physics is the first again.
    """
    subjects = [name.replace(" ", "_") for name in AREA]
    for split, count in (("test", 4), ("dev", 5)):
        rows = [
            {
                "question": f"How much is {10 + number} and {len(subject) + count}, as {subject} has it?",
                "subject": subject,
                "choices": [str(10 + number + len(subject) + count + shift - number % 4) for shift in range(4)],
                "answer": number % 4,
            }
            for subject in subjects
            for number in range(count)
        ]
        if split == "dev":
            first = next(place for place, row in enumerate(rows) if row["subject"] == "college_physics")
            rows[first + 3] = rows[first]
        parquet(folder / f"all/{split}-00000-of-00001.parquet", rows, MMLU_FEATURES)
    (folder / "all/validation-00000-of-00001.parquet").write_bytes(b"not asked for")


def serve_catalogue(hub: Hub, folder: Path) -> None:
    """Serve the three models and the report's datasets under their names and commits in params.yaml; Llama is gated."""
    params = real_params()
    for name in MODELS:
        source = params["catalog"][name]["source"]
        write_model(name, folder / name)
        hub.add("models", source["repository"], folder / name, source["commit"], gated=name == "llama31_8b")
    for name, write in (("beavertails", write_beavertails), ("mmlu_hub", write_mmlu)):
        source = params["fetch_data"]["datasets"][name]["source"]
        write(folder / name)
        hub.add("datasets", source["repository"], folder / name, source["commit"])
