"""Checkpoints that judge, brought and exported."""

import contextlib
import io
import logging
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

from safety_tax.core.errors import PipelineError
from safety_tax.core.tensor_files import Checkpoint, require_finite
from safety_tax.core.workspace import PROMPTS
from safety_tax.datasets.matched_benign import read as read_benign
from safety_tax.settings.stages import Export, JudgeModel
from safety_tax.sources import fetch, put


def export_guard(weights: Path, entry: JudgeModel, settings: Export, folder: Path) -> float:
    """Write a guard as any measured model, all in one folder; returns the largest difference to PyTorch, in nats."""
    # torch and Transformers take seconds to import, and `rules` needs neither.
    from safety_tax.model_files.bringing import check, give_type
    from safety_tax.model_files.gathering import model_files
    from safety_tax.onnx.exporting import export_base
    from safety_tax.onnx.parity import gate_difference
    from safety_tax.tokens.encoder import Encoder
    from safety_tax.tokens.ends import ANY_DAY, state_ends

    for file in model_files(weights):
        put(file, folder / file.name, entry.source)
    check(folder, weights.name)
    give_type(entry.dtype, folder, weights.name)
    encoder = Encoder.open(folder, weights.name, ANY_DAY)  # plain texts: no template is rendered
    state_ends(folder, encoder.ends.tokens)
    export_base(folder, entry.dtype, settings, folder)
    texts = [f"{item.text}\n\n{item.answer}" for item in read_benign(PROMPTS)[: settings.parity_prompts]]
    prompts = [encoder.text(text) for text in texts]
    return gate_difference(folder, folder, prompts, settings.tolerance_on_gpu(entry.dtype))


def export_classifier(weights: Path, entry: JudgeModel, settings: Export, folder: Path) -> float:
    """Write a classifier by Optimum; returns the largest difference to PyTorch's log-probabilities, in nats."""
    import numpy as np
    import torch
    from optimum.exporters.onnx import main_export
    from transformers import AutoModelForSequenceClassification

    from safety_tax.engine.session import CPU
    from safety_tax.engine.weight_files import write_record
    from safety_tax.judging.sequence_classifier import SequenceClassifier
    from safety_tax.model_files.attention import implementation_in

    checkpoint = Checkpoint(weights)
    for name in checkpoint.names():
        require_finite(checkpoint.read(name), name, weights)
    logging.getLogger("optimum").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # the tracer's, on shapes that the comparison below checks
        main_export(
            str(weights),
            output=folder,
            task="text-classification",
            opset=settings.opset,
            dtype={"float32": "fp32", "float16": "fp16"}[entry.dtype],
            do_validation=False,  # only warns, on random inputs
        )
    write_record(folder)  # of no files: its weights lie in the graph, and only there
    classifier = SequenceClassifier(folder, CPU)
    answers = [item.answer or "" for item in read_benign(PROMPTS)[: settings.parity_prompts]]
    windows = classifier.windows(answers, min(classifier.longest, 512), 0)
    # All in one batch, so that padding is checked, too.
    found = classifier.log_probabilities(windows, 1 << 30, len(windows))
    attention = implementation_in(weights)
    network = AutoModelForSequenceClassification.from_pretrained(
        weights, dtype=torch.float32, attn_implementation=attention
    ).eval()
    expected = []
    for window in windows:
        with torch.inference_mode():
            logits = network(**{name: torch.tensor([row]) for name, row in window.inputs.items()}).logits[0]
        expected.append(torch.log_softmax(logits.double(), dim=-1).numpy())
    return float(np.abs(found - np.stack(expected)).max())


def bring(name: str, entry: JudgeModel, settings: Export, folder: Path) -> float:
    """Write one model into `folder`; returns the largest difference to PyTorch, in nats.

    Raises PipelineError when the source is not to be had, is no safetensors checkpoint, or the difference exceeds
    its type's tolerance of `export`.
    """
    with TemporaryDirectory(prefix="safety-tax-") as scratch:
        weights = fetch(entry.source, Path(scratch))
        if not (weights / "config.json").exists():
            raise PipelineError(
                f"Expected the source of judge_models.{name} to be a folder with a config.json, found none in "
                f"{weights.name!r}; correct it in params.yaml."
            )
        export_model = {"classifier": export_classifier, "guard": export_guard}[entry.judge]
        worst = export_model(weights, entry, settings, folder)
    tolerance = settings.tolerance(entry.dtype)
    if not worst <= tolerance:
        raise PipelineError(
            f"Expected ONNX Runtime and PyTorch to agree within {tolerance} nats on {name}, found a "
            f"difference of {worst:.2g}; do not judge by this export: check its dtype in params.yaml."
        )
    return worst
