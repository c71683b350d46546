"""Every path of a project, relative to its root, which all stages and commands run in."""

from pathlib import Path

PARAMS = Path("params.yaml")
PIPELINE = Path("dvc.yaml")
VERSION = Path("safety-tax.version")
"""Of a project begun by `safety-tax init`: the version that its numbers are of."""

# In Git: what the project wrote itself, and what people write.
PROMPTS = Path("data/prompts")
REFUSALS = PROMPTS / "refusals.jsonl"
CHAT_TEMPLATES = Path("data/chat_templates")
LABELS = Path("data/labels")

# Outputs that DVC keeps.
BENCHMARKS = Path("data/benchmarks")
TUNING_PROMPTS = Path("data/tuning/prompts.jsonl")
RESPONSES = Path("data/responses")
VERDICTS = Path("data/verdicts")
BASES = Path("models/base")
DONORS = Path("models/donors")
CURVATURE = Path("models/curvature")
MERGED = Path("models/merged")
ONNX = Path("models/onnx")
JUDGES = Path("models/judges")

# Outputs that Git keeps.
METRICS = Path("metrics")
DETAIL = METRICS / "detail"
FIGURES = METRICS / "figures"
SWEEPS = METRICS / "sweeps"

# Neither: what a stopped run goes on from, records of how a run went, pages to look at.
RUNS = Path("runs")
JOURNALS = RUNS / "journal"
REPORTS = Path("reports")
DVC_CACHE = Path(".dvc/cache")


def benchmark(kind: str) -> Path:
    """The items of one kind."""
    return BENCHMARKS / f"{kind}.jsonl"


def donor(model: str, name: str) -> Path:
    """A donor's adapter or checkpoint."""
    return DONORS / model / name


def weights(model: str, variant: str) -> Path:
    """The checkpoint of the base, or of a merge."""
    return BASES / model if variant == "base" else MERGED / model / variant


def onnx(model: str, variant: str) -> Path:
    """A variant's exported graph."""
    return ONNX / model / variant


def responses(model: str, variant: str) -> Path:
    """A variant's answers and scores, a file a kind."""
    return RESPONSES / model / variant


def verdicts(model: str, variant: str) -> Path:
    """A label or outcome for each of a variant's answers."""
    return VERDICTS / model / f"{variant}.jsonl"
