"""Which weights matter to a donor's task, to the base and to the donor alike, by rows of that task."""

import datetime
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM

from safety_tax.core.progress import progress_bar
from safety_tax.core.tensor_files import Checkpoint
from safety_tax.core.workspace import BASES, DONORS
from safety_tax.donors.curvature import read_rows_of, write_one
from safety_tax.donors.moments import snip
from safety_tax.donors.opening import Donor, open_donor
from safety_tax.donors.tensor_names import is_embedding
from safety_tax.donors.tuning_rows import TuningRow
from safety_tax.model_files.attention import implementation_in
from safety_tax.settings.catalog import Model
from safety_tax.settings.donors import Importance
from safety_tax.tokens.encoder import Encoder


def quantiles(importance: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of each entry, the share of the entries that are no more important, in (0, 1]; equal ones go by their place."""
    flat = importance.reshape(-1)
    ranks = np.empty(flat.size, np.float32)
    ranks[np.argsort(flat, kind="stable")] = np.arange(1, flat.size + 1, dtype=np.float64) / flat.size
    return ranks.reshape(importance.shape)


def locate(base: Path, donor: Donor, rows: list[TuningRow], folder: Path) -> int:
    """Write a score of each weight into `folder`, the lower one of base and donor; returns how many weights."""
    attention = implementation_in(base)
    network = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation=attention).eval()
    network.to("cuda" if torch.cuda.is_available() else "cpu")
    folder.mkdir()
    with progress_bar() as progress:
        task = progress.add_task(f"importance of {donor.name}", total=2 * len(rows), unit="rows")
        scores = {name: quantiles(of) for name, of in snip(network, rows, lambda: progress.advance(task)).items()}
        weights = dict(network.named_parameters())
        with torch.no_grad():
            for name in donor.names():
                if name in weights:
                    weights[name].add_(torch.from_numpy(donor.delta(name)).to(weights[name].device))
        for name, of in snip(network, rows, lambda: progress.advance(task)).items():
            write_one(folder, name, {name: np.minimum(scores.pop(name), quantiles(of))})
    return len(list(folder.iterdir()))


def locate_all(name: str, model: Model, settings: Importance, date: datetime.date, folder: Path) -> int:
    """`locate` each donor of the settings; returns how many weights have a score, of all donors together."""
    base = BASES / name
    checkpoint = Checkpoint(base, "model*.safetensors")
    encoder = Encoder.open(base, name, date)
    words = checkpoint.shape(next(filter(is_embedding, checkpoint.names())))[0]
    found = 0
    for donor, kind in settings.donors.items():
        rows = read_rows_of(kind, settings.rows, encoder, words, model, settings.max_tokens, "importance.rows")
        found += locate(base, open_donor(DONORS / name / donor, checkpoint), rows, folder / donor)
    return found
