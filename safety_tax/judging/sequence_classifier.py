"""An exported sequence classifier: texts cut into windows, and log-probabilities of its classes."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from transformers import AutoTokenizer

from safety_tax.core.errors import PipelineError, how_to_have
from safety_tax.engine.batches import plan, right_padded
from safety_tax.engine.session import GRAPH, require_provider, start

Float64 = NDArray[np.float64]


class Window(NamedTuple):
    """A stretch of one text: which text, the model's inputs with special tokens, and its own tokens without them."""

    text: int
    inputs: dict[str, list[int]]
    tokens: int


class SequenceClassifier:
    """A classifier's graph and tokenizer, on the provider that was asked for and on no other."""

    def __init__(self, folder: Path, provider: str) -> None:
        """Raises PipelineError when there is no such classifier, or its session runs on another provider."""
        if not (folder / GRAPH).exists():
            raise PipelineError(f"Expected an exported classifier in {folder}, found none; {how_to_have()}.")
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        self.classes = class_names(config, folder)
        self.folder = folder
        self.provider = provider
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        # An absent limit is a very large number here.
        self.longest = min(self.tokenizer.model_max_length, config.get("max_position_embeddings", 1 << 30))
        self._pad = {"input_ids": self.tokenizer.pad_token_id or 0}
        self._session = start(folder, provider)
        self._inputs = [entry.name for entry in self._session.get_inputs()]

    def require_provider(self) -> None:
        """See `session.require_provider`."""
        require_provider(self._session, self.provider, self.folder)

    def require_window(self, most_tokens: int, overlap: int) -> None:
        """Raises PipelineError when a window does not fit the model, or leaves no room for text beside its overlap."""
        if most_tokens > self.longest:
            raise PipelineError(
                f"Expected judge.window_tokens of at most {self.longest}, which {self.folder.name} reads, found "
                f"{most_tokens}; correct params.yaml."
            )
        room = most_tokens - self.tokenizer.num_special_tokens_to_add()
        if overlap >= room:
            raise PipelineError(
                f"Expected judge.overlap_tokens below {room}, the window without its special tokens, found {overlap}; "
                "correct params.yaml."
            )

    def windows(self, texts: Sequence[str], most_tokens: int, overlap: int) -> list[Window]:
        """Windows of at most `most_tokens`, special tokens included; neighbours share `overlap` tokens of text."""
        encoded = self.tokenizer(
            list(texts),
            truncation=True,
            max_length=most_tokens,
            stride=overlap,
            return_overflowing_tokens=True,
            return_special_tokens_mask=True,
        )
        names = [name for name in self._inputs if name in encoded]
        return [
            Window(text, {name: encoded[name][row] for name in names}, special.count(0))
            for row, (text, special) in enumerate(
                zip(encoded["overflow_to_sample_mapping"], encoded["special_tokens_mask"], strict=True)
            )
        ]

    def log_probabilities(
        self,
        windows: Sequence[Window],
        tokens_per_batch: int,
        rows_per_batch: int,
        advance: Callable[[int], None] = lambda windows: None,
    ) -> Float64:
        """Natural logs, [windows, classes]. Raises PipelineError when a logit is not finite."""
        result = np.empty((len(windows), len(self.classes)))
        lengths = [len(window.inputs["input_ids"]) for window in windows]
        for batch in plan(lengths, 0, tokens_per_batch, rows_per_batch):
            inputs = {
                name: right_padded([windows[item].inputs[name] for item in batch], self._pad.get(name, 0))[0]
                for name in windows[0].inputs
            }
            logits = np.asarray(self._session.run(["logits"], inputs)[0], np.float64)
            if not np.isfinite(logits).all():
                raise PipelineError(
                    f"Expected finite logits from {self.folder}, found NaN or infinity; "
                    "use dtype float32 in the model's entry of judge_models in params.yaml."
                )
            result[batch] = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
            advance(len(batch))
        return result


def class_names(config: dict[str, object], folder: Path) -> list[str]:
    """Names of the classes in the order of the logits.

    Raises PipelineError for a model whose scores are no distribution over two classes or more.
    """
    architecture = (config.get("architectures") or ["none"])[0]  # type: ignore[index]  # a list of texts
    if not architecture.endswith("ForSequenceClassification"):
        raise PipelineError(
            f"Expected a sequence classifier in {folder.name!r}, found the architecture {architecture}; "
            "correct its entry of judge_models in params.yaml."
        )
    names: dict[str, str] = config.get("id2label") or {}  # type: ignore[assignment]
    kind = config.get("problem_type")
    if len(names) < 2 or kind in ("regression", "multi_label_classification"):
        raise PipelineError(
            f"Expected {folder.name!r} to choose one of several classes, found {len(names)} and problem type {kind}; "
            "choose another classifier."
        )
    return [names[index] for index in sorted(names, key=int)]
