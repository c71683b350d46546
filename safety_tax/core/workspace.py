"""Every path of a project, relative to its root, which all stages and commands run in."""

from pathlib import Path

PARAMS_FILE = Path("params.yaml")
PIPELINE = Path("dvc.yaml")
VERSION = Path("safety-tax.version")
"""Of a project begun by `safety-tax init`: the version that its numbers are of."""

# In Git: what the project wrote itself, and what people write.
PROMPTS = Path("data/prompts")
REFUSALS = PROMPTS / "refusals.jsonl"
CHAT_TEMPLATES = Path("data/chat_templates")
LABELS = Path("data/labels")
MERGES = Path("data/merges")
"""Configurations of mergekit."""

# Outputs that DVC keeps.
BENCHMARKS = Path("data/benchmarks")
TUNING_PROMPTS = Path("data/tuning/prompts.jsonl")
RESPONSES = Path("data/responses")
VERDICTS = Path("data/verdicts")
MODELS = Path("models")
BASES = MODELS / "base"
DONORS = MODELS / "donors"
KEPT = ".kept"
"""A file in each model's folder there: DVC depends on the folder, also where no recipe asks for a donor."""
CURVATURE = MODELS / "curvature"
IMPORTANCE = MODELS / "importance"
MERGED = MODELS / "merged"
ONNX = MODELS / "onnx"
JUDGES = MODELS / "judges"

# Outputs that Git keeps.
METRICS = Path("metrics")
DETAIL = METRICS / "detail"
FIGURES = METRICS / "figures"
SWEEPS = METRICS / "sweeps"

# Neither: what a stopped run goes on from, records of how a run went, pages to look at.
RUNS = Path("runs")
JOURNALS = RUNS / "journal"
EXPECTED = RUNS / "expected.json"
REPORTS = Path("reports")
