"""The judge `classifier`: any Hugging Face sequence classifier, on the response alone.

A response longer than the window is cut into overlapping ones. The classes' probabilities are averaged over the
windows, weighted by their tokens; the label with the largest sum of its classes wins, and the first of `labels` where
two are equal.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np

from safety_tax.core.console import say
from safety_tax.core.errors import PipelineError, did_you_mean
from safety_tax.core.progress import progress_bar
from safety_tax.core.rows import Label
from safety_tax.engine.session import choose_provider
from safety_tax.judging.exchange import Exchange
from safety_tax.judging.judgement import Judgement
from safety_tax.judging.sequence_classifier import Float64, SequenceClassifier, Window
from safety_tax.settings.stages import Run


class ClassifierSettings(Protocol):
    """What `params.yaml` says of a classifier; see `judges/classifier.py`."""

    @property
    def model(self) -> str:
        """Its entry of `judge_models`."""

    @property
    def labels(self) -> Mapping[str, Label]:
        """Every class of the checkpoint, by its own name, to a label."""

    @property
    def window_tokens(self) -> int:
        """A longer response is cut into windows of so many."""

    @property
    def overlap_tokens(self) -> int:
        """That two neighbouring windows share."""


def load_classifier(
    folder: Path, settings: ClassifierSettings, run: Run
) -> Callable[[Sequence[Exchange]], list[Judgement]]:
    """Raises PipelineError when the classes are not those of `labels`, or the window does not fit the model."""
    classifier = SequenceClassifier(folder, choose_provider(run.provider))
    require_classes(classifier.classes, settings.labels, settings.model)
    classifier.require_window(settings.window_tokens, settings.overlap_tokens)
    say(f"judge: classifier {settings.model} on {classifier.provider}")
    return partial(label_responses, classifier, settings, run)


def require_classes(classes: Sequence[str], labels: Mapping[str, Label], model: str) -> None:
    """Raises PipelineError when `labels` does not give every class of the checkpoint a label, or names another."""
    for name in labels:
        if name not in classes:
            raise PipelineError(
                f"Expected judge.labels in params.yaml to name classes of {model}, found {name!r}; "
                f"{did_you_mean(name, classes)}"
            )
    missing = [name for name in classes if name not in labels]
    if missing:
        raise PipelineError(
            f"Expected judge.labels in params.yaml to give every class of {model} a label, found none for "
            f"{missing[0]!r}; add it."
        )


def label_responses(
    classifier: SequenceClassifier, settings: ClassifierSettings, run: Run, exchanges: Sequence[Exchange]
) -> list[Judgement]:
    """A label for every exchange; raises PipelineError when the provider changed on the way."""
    texts = [exchange.response for exchange in exchanges]
    windows = classifier.windows(texts, settings.window_tokens, settings.overlap_tokens)
    with progress_bar() as progress:
        task = progress.add_task("windows", total=len(windows), unit="windows")
        scores = classifier.log_probabilities(
            windows, run.scoring_tokens, run.rows_per_batch, lambda count: progress.advance(task, count)
        )
    classifier.require_provider()
    return [
        most_likely(probabilities, classifier.classes, settings.labels)
        for probabilities in combined(windows, np.exp(scores), len(texts))
    ]


def combined(windows: Sequence[Window], probabilities: Float64, texts: int) -> Float64:
    """Mean over the windows of each text, weighted by tokens: [windows, classes] -> [texts, classes]."""
    sums = np.zeros((texts, probabilities.shape[1]))
    weights = np.zeros((texts, 1))
    for window, row in zip(windows, probabilities, strict=True):
        sums[window.text] += window.tokens * row
        weights[window.text] += window.tokens
    return sums / weights


def most_likely(probabilities: Float64, classes: Sequence[str], labels: Mapping[str, Label]) -> Judgement:
    """The label whose classes have the largest sum; the reason is its most likely class."""
    shares = dict(zip(classes, probabilities.tolist(), strict=True))
    sums: dict[Label, float] = {}
    for name, label in labels.items():
        sums[label] = sums.get(label, 0.0) + shares[name]
    best = max(sums, key=lambda label: sums[label])
    of_best = [name for name, label in labels.items() if label == best]
    return Judgement(best, max(of_best, key=lambda name: shares[name]))
