"""Where a base is curved: second moments and Fisher information, collected from tuning rows."""

import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from safety_tax.core.errors import PipelineError
from safety_tax.core.progress import progress_bar
from safety_tax.core.tensor_files import Tensor, write_checkpoint
from safety_tax.core.workspace import BASES
from safety_tax.settings.catalog import Model
from safety_tax.settings.donors import Curvature

if TYPE_CHECKING:
    from safety_tax.donors.tuning_rows import TuningRow
    from safety_tax.tokens.encoder import Encoder


def read_rows_of(
    kind: str, count: int, encoder: "Encoder", vocabulary: int, model: Model, limit: int, key: str
) -> "list[TuningRow]":
    """The first so many tuning rows of a kind, responses cut to `limit` tokens in all. PipelineError: too few."""
    from safety_tax.core.rows import PROMPT, read_rows
    from safety_tax.core.workspace import REFUSALS, TUNING_PROMPTS
    from safety_tax.donors.tuning_rows import TuningRow, as_tokens, read_refusals, require_embedded

    there = [prompt for prompt in read_rows(TUNING_PROMPTS, PROMPT) if prompt.kind == kind]
    if len(there) < count:
        raise PipelineError(
            f"Expected {count:,} {kind} tuning rows for the {key.partition('.')[0]}, found {len(there):,}; "
            f"lower {key} or raise fetch_data.tune_share.{kind} in params.yaml."
        )
    refusals = read_refusals(REFUSALS)
    rows = [as_tokens(prompt, refusals, encoder, model) for prompt in there[:count]]
    require_embedded(there[:count], rows, encoder.tokenizer, vocabulary)
    cut = [TuningRow(row.prompt[: limit - 1], row.response[: max(1, limit - len(row.prompt))]) for row in rows]
    return cut


def write_kfac(model: Any, rows: "dict[str, list[TuningRow]]", epsilon: float, folder: Path) -> dict[str, str]:
    """Write each input's eigenvectors, a file each; return weight -> the weight whose name its input goes by."""
    from safety_tax.donors.moments import stream_moments, subspace

    inputs: dict[str, str] = {}
    harmful, benign = ([row.prompt for row in rows[kind]] for kind in ("harmful", "benign"))
    folder.mkdir()
    with progress_bar() as progress:
        total = model.config.num_hidden_layers * (len(harmful) + len(benign))
        task = progress.add_task("second moments", total=total, unit="rows")
        for moments in stream_moments(model, harmful, benign, lambda: progress.advance(task)):
            source = moments.names[0]
            inputs |= dict.fromkeys(moments.names, source)
            parts = dict(zip((f"{source}.duals", f"{source}.directions"), subspace(moments, epsilon), strict=True))
            write_one(folder, source, parts)
    return inputs


def write_diagonal(model: Any, rows: "dict[str, list[TuningRow]]", epsilon: float, folder: Path) -> None:
    """Write F_h and F_h / (F_b + epsilon · mean F_b) of every weight, a file each."""
    from safety_tax.donors.moments import diagonal_fisher

    folder.mkdir()
    with progress_bar() as progress:
        task = progress.add_task("Fisher", total=sum(map(len, rows.values())), unit="rows")
        harmful, benign = (diagonal_fisher(model, rows[kind], lambda: progress.advance(task)) for kind in rows)
    for name, fisher in harmful.items():
        floor = np.float32(epsilon * float(np.mean(benign[name], dtype=np.float64)) or np.finfo(np.float32).tiny)
        write_one(folder, name, {f"{name}.harmful": fisher, f"{name}.ratio": fisher / (benign[name] + floor)})


def write_one(folder: Path, name: str, parts: dict[str, Tensor]) -> None:
    """One safetensors file of float32 tensors."""
    inner = folder / name
    inner.mkdir()
    write_checkpoint(inner, {key: part.shape for key, part in parts.items()}, np.dtype(np.float32), parts.__getitem__)
    (inner / "model.safetensors").rename(folder / f"{name}.safetensors")
    inner.rmdir()


def collect(name: str, model: Model, settings: Curvature, date: datetime.date, folder: Path) -> dict[str, Any]:
    """Write the forms asked for into `folder`; return what `curvature.json` says."""
    import torch
    from transformers import AutoModelForCausalLM

    from safety_tax.donors.moments import require_curved
    from safety_tax.model_files.attention import implementation_in
    from safety_tax.tokens.encoder import Encoder

    base = BASES / name
    encoder = Encoder.open(base, name, date)
    attention = implementation_in(base)
    network = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation=attention).eval()
    require_curved(network)
    network.to("cuda" if torch.cuda.is_available() else "cpu")
    rows = {
        kind: read_rows_of(
            kind,
            getattr(settings, kind),
            encoder,
            network.config.vocab_size,
            model,
            settings.max_tokens,
            f"curvature.{kind}",
        )
        for kind in ("harmful", "benign")
    }
    inputs: dict[str, str] = {}
    if "kfac" in settings.forms:
        inputs = write_kfac(network, rows, settings.epsilon, folder / "kfac")
    if "diagonal" in settings.forms:
        write_diagonal(network, rows, settings.epsilon, folder / "diagonal")
    return {"forms": settings.forms, "inputs": inputs}
