"""Whether a run of params.yaml can succeed on this machine, before it starts.  `python -m stages.doctor`

Prints what is here and what is needed; exit status 1, with the reasons, when something is missing.
"""

import argparse
from pathlib import Path

from rich.table import Table

from stages.lib.cache_objects import damaged_objects
from stages.lib.console import console, run_stage, say
from stages.lib.errors import PipelineError
from stages.lib.machine import Finding, check_disk, check_memory, check_provider, check_python, check_remote
from stages.lib.params import FolderSource, GivenDonor, HubDatasetSource, HubSource, Params, load_params

# Memory over the bytes of the weights, rough: Optimum traces a graph of over 2 GB whole and saves it again.
EXPORT_MEMORY = 3.0
# Of a model's weights on disk: base, its ONNX, and for each recipe the merge and its ONNX.
COPIES = 2


def check_sources(params: Params) -> tuple[list[Finding], dict[str, int]]:
    """The models, donors and datasets of this run; and the bytes of each model, where they are known."""
    findings: list[Finding] = []
    sizes: dict[str, int] = {}
    sources = {name: params.model(name).source for name in params.models}
    donors = {
        f"{donor} of {model}": entry.source_for(model)
        for donor, entry in params.donors.items()
        for model in params.models
        if isinstance(entry, GivenDonor)
    }
    for name, source in {**sources, **donors}.items():
        if isinstance(source, HubSource):
            from stages.lib.hub_access import check_model

            finding, sizes[name] = check_model(name, source)
            findings.append(finding)
        elif isinstance(source, FolderSource):
            folder = Path(source.path).expanduser()
            step = None if folder.is_dir() else f"correct the path of {name} in params.yaml"
            findings.append(Finding(name, "there" if folder.is_dir() else "no such folder", str(folder), step))
            sizes[name] = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    for name, dataset in params.datasets().items():
        if isinstance(dataset.source, HubDatasetSource):
            from stages.lib.hub_access import check_dataset

            findings.append(check_dataset(name, dataset.source))
    return findings, {name: sizes[name] for name in params.models if sizes.get(name)}


def check_room(params: Params, sizes: dict[str, int]) -> list[Finding]:
    """Disk and memory for the models whose size is known."""
    if not sizes:
        return []
    copies = COPIES * (1 + len(params.recipes))
    findings = [check_disk(Path.cwd(), copies * sum(sizes.values()))]
    return findings + [check_memory(f"export of {name}", EXPORT_MEMORY * size) for name, size in sizes.items()]


def show(findings: list[Finding]) -> None:
    """The table."""
    table = Table("", "what", "found", "needed")
    for finding in findings:
        table.add_row("ok" if finding.step is None else "NO", finding.what, finding.found, finding.needed)
    console.print(table, markup=False)


def check_cache() -> list[Finding]:
    """Every object of DVC's cache against its name: DVC itself takes a damaged one for whole."""
    cache = Path(".dvc/cache")
    findings = []
    for file, links in damaged_objects(cache, Path.cwd()):
        remove = " and ".join(str(path) for path in (file, *links))
        findings.append(Finding(file.name, "another content", "its MD5", f"remove {remove}, then run `dvc repro`"))
    return findings or [Finding("DVC's cache", "every object is whole", str(cache))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", action="store_true", help="read all of DVC's cache, too, and name what is damaged")
    arguments = parser.parse_args()
    params = load_params()
    say(f"doctor: {', '.join(params.models)}, {len(params.recipes)} recipes, size {params.size}")
    findings = check_python(Path(__file__).parent.parent) + check_provider(params.infer.provider)
    sources, sizes = check_sources(params)
    findings += sources + check_room(params, sizes) + check_remote()
    findings += check_cache() if arguments.cache else []
    show(findings)
    reasons = [f"{finding.what}: {finding.step}" for finding in findings if finding.step is not None]
    if reasons:
        raise PipelineError(f"This run cannot succeed here. {' | '.join(reasons)}")
    say("doctor: nothing speaks against a run")


if __name__ == "__main__":
    run_stage(main)
