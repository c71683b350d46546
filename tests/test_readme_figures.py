"""Figures in README.md that a benchmark kept in metrics/benchmarks/ are the kept ones."""

import json
from typing import Any

from conftest import ROOT

PROSE = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())


def kept(benchmark: str) -> Any:
    return json.loads((ROOT / f"metrics/benchmarks/{benchmark}.json").read_text(encoding="utf-8"))


def test_the_noise_floor_was_measured() -> None:
    (noise,) = kept("noise_floor").values()
    ways = noise["differ"].values()
    assert not any(way[what] for way in ways for what in ("responses", "labels", "outcomes"))
    assert f"runs the base on {noise['responses']} prompts and {noise['questions']} questions" in PROSE
    assert f"scores differed by {max(way['score'] for way in ways):.1e} bits a byte at most" in PROSE
