"""Checkpoints as Transformers 5 saves them, one a family, and what it computes with them: `transformers5/`.

Weights are drawn by tensor name, so none are kept. Transformers 5 writes the files anew in an environment of its own:

    python3 -m venv ../transformers5 && ../transformers5/bin/pip install torch==2.13.0 transformers==5.24.0
    ../transformers5/bin/python -m tests.model_files.transformers5_files
"""

import json
import warnings
from math import sqrt
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zlib import crc32

import numpy as np
from safetensors.numpy import load_file, save_file

FOLDER = Path(__file__).with_name("transformers5")
CONFIGS = ("config.json", "generation_config.json")
TOKENS = [3 + 17 * place % 250 for place in range(40)]
"""Ids of the text, longer than the windows of the families' rows."""
PLACES, WORDS = (2, 20, 39), range(0, 600, 47)
"""Places in it after which log-probabilities are kept, and of which ids."""
TEXTS = ("What is 12 + 3?", "  two  spaces\n\tand a naïve  answer.", "<|im_start|>user\nHi<|im_end|>\n", " 東京 don't")
CHAT_TEMPLATE = "{% for message in messages %}{{ message['content'] }}<|im_end|>\n{% endfor %}"
EYES = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28}
EYES |= {"patch_size": 14}
# The class that a published tokenizer_config.json names, and whether its tokens are of SentencePiece's kind.
TOKENIZERS = {
    "llama": ("LlamaTokenizer", True),
    "llama_without_bos": ("LlamaTokenizer", True),
    "gemma": ("GemmaTokenizer", True),
    "qwen2": ("Qwen2Tokenizer", False),
    "gpt2": ("GPT2Tokenizer", False),
    "gpt_neox": ("GPTNeoXTokenizerFast", False),
    "cohere": ("CohereTokenizerFast", False),
    "phi": ("CodeGenTokenizer", False),
    "plain": ("PreTrainedTokenizerFast", False),
}


def drawn(tensors: dict[str, list[int]], spread: float) -> dict[str, np.ndarray]:
    """Weights of these names and shapes, the same numbers wherever they are drawn: bits of a counter, no function.

    Matrices have the standard deviation `spread`; norms lie between 0.5 and 1.5, biases between -0.3 and 0.3.
    """
    weights = {}
    for name, shape in tensors.items():
        bits = np.random.Philox(crc32(name.encode())).random_raw(int(np.prod(shape)))
        even = ((bits >> np.uint64(40)).astype(np.float32) / np.float32(2**23) - np.float32(1)).reshape(shape)
        norm = ("norm" in name or "ln_" in name) and "bias" not in name
        middle, reach = (0.0, spread * sqrt(3)) if even.ndim > 1 else (1.0, 0.5) if norm else (0.0, 0.3)
        weights[name] = even * np.float32(reach) + np.float32(middle)
    return weights


def kept(logits: Any) -> list[list[float]]:
    """The log-probabilities that are kept of logits [1, tokens, words], to six decimals."""
    logprobs = logits.double().log_softmax(-1)[0]
    return [[round(value, 6) for value in logprobs[place, list(WORDS)].tolist()] for place in PLACES]


def write_model(name: str, network: Any, spread: float) -> None:
    """`<name>.json`: the settings and tensors that Transformers saves of a network, and what it then computes."""
    import torch

    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        network.save_pretrained(folder)
        file = folder / "model.safetensors"
        tensors = {tensor: list(value.shape) for tensor, value in sorted(load_file(file).items())}
        weights = drawn(tensors, spread)
        save_file(weights, file, metadata={"format": "pt"})
        loaded, found = type(network).from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
        assert not any(found.values()), (name, found)
        loaded.save_pretrained(folder)
        saved = load_file(file)
        assert saved.keys() == weights.keys() and all(np.array_equal(saved[key], weights[key]) for key in saved), name
        with torch.inference_mode():
            logits = loaded.eval()(input_ids=torch.tensor([TOKENS])).logits
        settings = {
            config.removesuffix(".json"): json.loads((folder / config).read_text(encoding="utf-8"))
            for config in CONFIGS
            if (folder / config).exists()
        }
    write(FOLDER / f"{name}.json", {**settings, "spread": spread, "tensors": tensors, "logprobs": kept(logits)})


def write_tokenizer(name: str, kind: str, sentencepiece: bool) -> None:
    """`tokenizers/<name>.json`: what Transformers saves of a published tokenizer, and what it makes of texts."""
    from transformers import AutoTokenizer

    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        settings: dict[str, Any] = {"tokenizer_class": kind, "clean_up_tokenization_spaces": False}
        settings |= {"bos_token": "<s>", "eos_token": "<|im_end|>", "unk_token": "<unk>", "pad_token": "<|im_end|>"}
        if sentencepiece:
            settings |= {"add_bos_token": name != "llama_without_bos", "add_eos_token": False}
        write(folder / "tokenizer_config.json", settings)
        fitted(sentencepiece).save(str(folder / "tokenizer.json"))
        tokenizer = AutoTokenizer.from_pretrained(folder)
        tokenizer.chat_template = CHAT_TEMPLATE
        tokenizer.save_pretrained(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        files = {file.name: file.read_text(encoding="utf-8") for file in folder.iterdir()}
        found = {name: json.loads(text) if name.endswith(".json") else text for name, text in sorted(files.items())}
    ids = [tokenizer(text)["input_ids"] for text in TEXTS]
    found["ids"] = ids
    found["texts"] = [tokenizer.decode(tokens) for tokens in ids]
    write(FOLDER / "tokenizers" / f"{name}.json", found)


def fitted(sentencepiece: bool) -> Any:
    """A tokenizer of single bytes or letters and a few merges, as tokenizer.json of a published model has it."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    special = ["<unk>", "<s>", "<|im_end|>", "<|im_start|>"]
    text = ["What is the capital of France? Two spaces and an answer.", "What is the answer? The answer is 12."] * 4
    if not sentencepiece:
        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        backend.train_from_iterator(
            text,
            trainers.BpeTrainer(vocab_size=280, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
        )
        return backend
    backend = Tokenizer(models.BPE(unk_token="<unk>"))
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.train_from_iterator(text, trainers.BpeTrainer(vocab_size=60, special_tokens=special, show_progress=False))
    found = json.loads(backend.to_str())["model"]
    words = [*found["vocab"], *(f"<0x{value:02X}>" for value in range(256))]
    merges = [tuple(pair) for pair in found["merges"]]
    backend.model = models.BPE(
        {word: place for place, word in enumerate(words)}, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True
    )
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return backend


def write(file: Path, content: Any) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")


def main() -> None:
    import transformers
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    from tests.families import FAMILIES, MIXED, SIZES, YARN, Family

    assert transformers.__version__.startswith("5."), "its own environment: see above"
    warnings.simplefilter("ignore")
    unscaled = {"rope_type": "default", "rope_theta": 3e4}
    # 5.24 leaves `truncate` unread where each kind of layer has its own rotation. No published OLMo-3 sets it.
    yarn = {key: value for key, value in YARN.items() if key != "truncate"} | {"rope_theta": 3e4}
    apart = {"sliding_attention": unscaled, "full_attention": yarn}
    more = {
        "olmo3_yarn": Family("OLMo-3 as published", "olmo3", MIXED | {"rope_parameters": apart}),
        "gpt_neox_theta": Family(
            "GPT-NeoX", "gpt_neox", {"rope_parameters": unscaled | {"partial_rotary_factor": 0.5}}
        ),
    }
    for name, family in (FAMILIES | more).items():
        write_model(name, AutoModelForCausalLM.from_config(family.config()), family.spread)
    text = {key: value for key, value in SIZES.items() if not key.endswith("token_id")} | {"head_dim": 16}
    seeing = {
        "gemma3_seeing": {
            **{"model_type": "gemma3", "mm_tokens_per_image": 4, "eos_token_id": [2, 5]},
            "text_config": text | MIXED | {"model_type": "gemma3_text", "pad_token_id": 2},
            "vision_config": EYES,
        },
        "mistral3_seeing": {
            **{"model_type": "mistral3", "image_token_index": 9, "tie_word_embeddings": False},
            "text_config": text | {"model_type": "mistral", "sliding_window": None},
            "vision_config": EYES | {"model_type": "pixtral", "head_dim": 8},
        },
    }
    for name, settings in seeing.items():
        config = transformers.AutoConfig.for_model(**settings)
        write_model(name, AutoModelForImageTextToText.from_config(config), 0.15)
    for name, (kind, sentencepiece) in TOKENIZERS.items():
        write_tokenizer(name, kind, sentencepiece)


if __name__ == "__main__":
    main()
