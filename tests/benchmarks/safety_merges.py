"""What merges made for safety gain and cost, beside their controls.  `python -m tests.benchmarks.safety_merges`

Clones this repository's HEAD, takes `examples/safety_merges.yaml` at the size `quick` for its params.yaml, and runs the
recipes that `RECIPES` names: a quarter of an hour on two slow cores. With `--all` every recipe of the example runs,
which takes an hour. The control `random_layers` takes as many layers as `safe_merge` then does. Keeps each recipe's
gain, losses and net benefit in `metrics/benchmarks/safety_merges.json`.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from safety_tax.core.console import run_stage, say
from safety_tax.results.variant import read_results
from tests.benchmarks.results import keep

ROOT = Path(__file__).parents[2]
MODEL, YARDSTICK, CONTROL = "smollm2_135m", "safe_merge_80", "random_layers"
# Each method and its control far along the dial, and the yardsticks. The projections of Safe LoRA that take a singular
# value decomposition of every layer are left out: minutes a recipe.
RECIPES = ("safety_donor", "utility_donor", "plain_100", YARDSTICK, "safe_merge_shuffled_80", "random_layers_80")
RECIPES += ("safe_lora_100", "resta_100", "led_100", "led_shuffled_100")


def reproduce(folder: Path, *stages: str) -> None:
    """Run `dvc repro` there."""
    subprocess.run([sys.executable, "-m", "dvc", "repro", *stages], cwd=folder, check=True)


def run(folder: Path, everything: bool) -> None:
    """Measure the recipes of the example in a clone."""
    path = folder / "params.yaml"
    params = yaml.safe_load((folder / "examples/safety_merges.yaml").read_text(encoding="utf-8"))
    recipes = {name: recipe for name, recipe in params["recipes"].items() if everything or name in RECIPES}
    path.write_text(yaml.safe_dump(params | {"size": "quick", "recipes": recipes}, sort_keys=False), encoding="utf-8")
    reproduce(folder, f"merge@{MODEL}-{YARDSTICK}")
    merged = folder / f"models/merged/{MODEL}/{YARDSTICK}/merge.json"
    changed = json.loads(merged.read_text(encoding="utf-8"))["layers_changed"]
    for recipe in recipes.values():
        recipe.update({"k": changed} if recipe["method"] == CONTROL else {})
    path.write_text(yaml.safe_dump(params | {"size": "quick", "recipes": recipes}, sort_keys=False), encoding="utf-8")
    reproduce(folder)


def summary(folder: Path) -> dict[str, dict[str, list[float]]]:
    """Of a measured clone, by recipe: `gain`, each currency's loss and `net_benefit`, with limits, as fractions."""
    found: dict[str, dict[str, list[float]]] = {}
    for name, variant in read_results(folder / f"metrics/detail/{MODEL}.json").recipes.items():
        numbers = {"gain": variant.gain, **{currency: paid.loss for currency, paid in variant.paid.items()}}
        found[name] = {key: [of.value, of.low, of.high] for key, of in numbers.items()}
        if variant.net_benefit is not None:
            of = variant.net_benefit.estimate
            found[name]["net_benefit"] = [of.value, of.low, of.high]
    return {name: {key: [round(one, 4) for one in of] for key, of in row.items()} for name, row in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="every recipe of the example")
    parser.add_argument("--measured", type=Path, help="a clone where this ran: only keep its figures")
    arguments = parser.parse_args()
    with TemporaryDirectory(prefix="safety-tax-") as scratch:
        folder = arguments.measured or Path(scratch) / "clone"
        if arguments.measured is None:
            subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
            run(folder, arguments.all)
        found = summary(folder)
    keep("safety_merges", recipes=found)
    say(f"{len(found)} recipes")


if __name__ == "__main__":
    run_stage(main)
