"""What merges made for safety gain and cost, beside their controls.  `python -m tests.benchmarks.safety_merges`

Clones this repository's HEAD, takes `examples/safety_merges.yaml` at the size `quick` for its params.yaml, and runs it:
at least half an hour on two slow cores. The control `random_layers` takes as many layers as `safe_merge` then does.
Keeps each recipe's gain, losses and net benefit, and each family's losses at half its donor's gain, in
`metrics/benchmarks/safety_merges.json`.
"""

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from safety_tax.core.console import run_stage, say
from safety_tax.results.variant import read_results
from tests.benchmarks.results import keep

ROOT = Path(__file__).parents[2]
MODEL, YARDSTICK = "smollm2_135m", "safe_merge_80"


def reproduce(folder: Path, *stages: str) -> None:
    """Run `dvc repro` there."""
    subprocess.run([sys.executable, "-m", "dvc", "repro", *stages], cwd=folder, check=True)


def run(folder: Path) -> None:
    """Measure every recipe of the example in a clone."""
    params = folder / "params.yaml"
    content = (folder / "examples/safety_merges.yaml").read_text(encoding="utf-8")
    params.write_text(re.sub(r"(?m)^size: \w+", "size: quick", content), encoding="utf-8")
    reproduce(folder, f"merge@{MODEL}-{YARDSTICK}")
    merged = folder / f"models/merged/{MODEL}/{YARDSTICK}/merge.json"
    changed = json.loads(merged.read_text(encoding="utf-8"))["layers_changed"]
    content = re.sub(r"(random_layers_\d+: .*?\bk: )[\d.]+", rf"\g<1>{changed}", params.read_text(encoding="utf-8"))
    params.write_text(content, encoding="utf-8")
    reproduce(folder)


def summary(folder: Path) -> dict[str, dict[str, object]]:
    """Of a measured clone: `recipes` and `families`, values with their limits as fractions."""
    results = read_results(folder / f"metrics/detail/{MODEL}.json")
    recipes = {}
    for name, variant in results.recipes.items():
        losses = {currency: paid.loss for currency, paid in variant.paid.items()}
        recipes[name] = {
            key: [round(number, 4) for number in (of.value, of.low, of.high)]
            for key, of in {"gain": variant.gain, **losses}.items()
        }
        if variant.net_benefit is not None:
            of = variant.net_benefit.estimate
            recipes[name]["net_benefit"] = [round(number, 4) for number in (of.value, of.low, of.high)]
    families = {
        " ".join(family.members): {key: round(loss, 4) for key, loss in family.matched_loss.items()}
        for family in results.families
    }
    return {"recipes": recipes, "families": families}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measured", type=Path, help="a clone where this ran: only keep its figures")
    arguments = parser.parse_args()
    with TemporaryDirectory(prefix="safety-tax-") as scratch:
        folder = arguments.measured or Path(scratch) / "clone"
        if arguments.measured is None:
            subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
            run(folder)
        found = summary(folder)
    keep("safety_merges", **found)
    say(f"{len(found['recipes'])} recipes, {len(found['families'])} families")


if __name__ == "__main__":
    run_stage(main)
