"""Whether a run of params.yaml can succeed on this machine, before it starts.  `safety-tax doctor`

Prints what is here and what is needed; exit status 1, with the reasons, when something is missing.
"""

import argparse
from pathlib import Path
from typing import NamedTuple

from rich.table import Table

from safety_tax.checkup.cache_objects import damaged_objects
from safety_tax.checkup.duration import load_of, seconds_of_one, stage_seconds, total
from safety_tax.checkup.files import check_config, check_files
from safety_tax.checkup.machine import (
    Finding,
    check_disk,
    check_memory,
    check_provider,
    check_python,
    check_remote,
    gpu_memory,
)
from safety_tax.checkup.needs import (
    Need,
    disk_need,
    donor_disk_need,
    judge_disk_need,
    judge_memory_needs,
    memory_needs,
    recorded_bytes,
)
from safety_tax.checkup.project_state import check_git, first_commit_advice
from safety_tax.checkup.rates import measure
from safety_tax.checkup.shape import Shape, read_shape
from safety_tax.core.console import console, say
from safety_tax.core.errors import PipelineError
from safety_tax.core.files import write_json
from safety_tax.core.workspace import BASES, EXPECTED
from safety_tax.engine.session import CPU, CUDA, cuda_problem
from safety_tax.params import Params, load_params
from safety_tax.settings.donors import GivenDonor
from safety_tax.settings.sources import FolderSource, HubDatasetSource, HubSource


class Size(NamedTuple):
    """A model's bytes at its source, 0 where they are not known, and its shape where its config.json is at hand."""

    stored: int
    shape: Shape | None


class Sizes(NamedTuple):
    """Of what this run measures, of what judges, and of donors that were tuned elsewhere, in bytes."""

    models: dict[str, Size]
    judges: dict[str, Size]
    donors: dict[str, float]


def check_sources(params: Params) -> tuple[list[Finding], Sizes]:
    """The models, donors, judges and datasets of this run; and the sizes of models and judges."""
    findings: list[Finding] = []
    stored: dict[str, int] = {}
    configs: dict[str, Path] = {}
    sources = {name: params.model(name).source for name in params.models}
    donors = {
        f"{donor} of {model}": entry.source_for(model)
        for donor, entry in params.donors.items()
        for model in params.models
        if isinstance(entry, GivenDonor) and entry.is_for(model)
    }
    named = {
        f"{what} of recipe {name}": source
        for name, recipe in params.recipes.items()
        for model in filter(recipe.is_for, params.models)
        for what, source in recipe.sources(model, params.model(model).source).items()
    }
    judges = {f"judge {name}": entry.source for name, entry in params.judge_models.items()}
    brought = {**sources, **donors, **named, **judges}
    asked = [*brought.values(), *(dataset.source for dataset in params.datasets().values())]
    if any(isinstance(source, HubSource | HubDatasetSource) for source in asked):
        from safety_tax.checkup.hub_access import check_token

        findings.append(check_token())
    for name, source in brought.items():
        if isinstance(source, HubSource):
            from safety_tax.checkup.hub_access import check_model, read_config

            finding, stored[name] = check_model(name, source)
            findings.append(finding)
            if finding.step is None and name not in donors and name not in named:
                configs[name] = read_config(source)
        elif isinstance(source, FolderSource):
            folder = Path(source.path).expanduser()
            step = None if folder.is_dir() else f"correct the path of {name} in params.yaml"
            findings.append(Finding(name, "there" if folder.is_dir() else "no such folder", str(folder), step))
            stored[name] = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
            configs[name] = folder / "config.json"
            if step is None and name not in judges:
                findings += check_files(name, folder, params.model(name).chat_template if name in sources else None)
        if name in configs and isinstance(source, HubSource):
            findings += check_config(name, configs[name])
    for name in params.models:
        fetched = BASES / name
        if fetched.is_dir() and not isinstance(sources[name], FolderSource):
            findings += check_files(name, fetched, "own")
    for name, dataset in params.datasets().items():
        if isinstance(dataset.source, HubDatasetSource):
            from safety_tax.checkup.hub_access import check_dataset

            findings.append(check_dataset(name, dataset.source))
    models, judging = {}, {}
    for name in params.models:
        shape = read_shape(configs.get(name, BASES / name / "config.json"))
        known = stored.get(name, 0) or (
            shape.bytes(params.model(name).dtype) if shape else recorded_bytes(params, name)
        )
        models[name] = Size(known, shape)
    for name in params.judge_models:
        file = configs.get(f"judge {name}")
        judging[name] = Size(stored.get(f"judge {name}", 0), read_shape(file) if file else None)
    given = {name: donor_disk_need(name, stored[name]) for name in donors if stored.get(name)}
    # Of a folder nothing is copied; the Hub's files go into its cache.
    given |= {name: float(stored.get(name, 0)) for name, source in named.items() if isinstance(source, HubSource)}
    return findings, Sizes(models, judging, given)


def check_room(params: Params, sizes: Sizes, gpu: int | None, on_gpu: bool) -> list[Finding]:
    """Disk and memory for the models, judges and donors whose size is known; see `unchecked` for the others.

    `gpu` is the memory of the one that torch tunes on; `on_gpu` says whether ONNX Runtime runs there, too.
    """
    disk = {
        name: disk_need(name, size.stored, size.shape, params.model(name), params.of(name))
        for name, size in sizes.models.items()
        if size.stored
    }
    disk |= {
        f"judge {name}": judge_disk_need(name, size.stored, size.shape, params.judge_models[name])
        for name, size in sizes.judges.items()
        if size.stored
    }
    findings = check_disk(Path.cwd(), disk | sizes.donors)
    needs: dict[str, dict[str, Need]] = {
        name: memory_needs(size.shape, params.model(name), params.of(name), gpu is not None, on_gpu)
        for name, size in sizes.models.items()
        if size.shape
    }
    needs |= {
        f"judge {name}": judge_memory_needs(size.shape, params.judge_models[name], params, on_gpu)
        for name, size in sizes.judges.items()
        if size.shape
    }
    for name, of_stages in needs.items():
        for stage, need in of_stages.items():
            findings.append(check_memory(f"{stage} of {name}", need.main, need.gpu, gpu))
    return findings


def unchecked(params: Params, sizes: Sizes) -> list[str]:
    """What this check could not look at, one phrase each."""
    named = {**sizes.models, **{f"judge {name}": size for name, size in sizes.judges.items()}}
    disk = [name for name, size in named.items() if not size.stored]
    shapeless = [name for name, size in named.items() if not size.shape]
    parts = [f"disk for {', '.join(disk)}"] if disk else []
    parts += [f"memory for {', '.join(shapeless)}"] if shapeless else []
    return parts


def show_times(params: Params, sizes: dict[str, Size], on_gpu: bool) -> None:
    """How long each model's stages will take here, by rates that are measured now; ONNX Runtime's on the GPU or not."""
    shapes = {name: size.shape for name, size in sizes.items() if size.shape}
    loads = {name: load_of(params.model(name), params.of(name)) for name in shapes}
    if len(shapes) < len(sizes) or None in loads.values():
        say("  expected time: known once `dvc repro fetch_model fetch_data` has brought the model and the items")
        return
    name, largest = max(shapes.items(), key=lambda pair: pair[1].parameters)
    say("  measuring this machine, about 20 seconds ...")
    rates = measure(largest, CUDA if on_gpu else CPU, params.model(name).dtype, params.tune)
    say(
        f"  layers of {name}: {rates.multiply / 1e9:,.0f} GFLOP/s and {rates.read / 1e9:,.1f} GB/s in ONNX Runtime, "
        f"{rates.tuning / 1e9:,.0f} GFLOP/s in tuning; disk {rates.store / 1e9:,.1f} GB/s; a process starts in "
        f"{rates.start:.1f} s"
    )
    table = Table("expected time", *shapes)
    times = {}
    for name, shape in shapes.items():
        load = loads[name]
        assert load is not None
        times[name] = stage_seconds(shape, params.model(name), params.of(name), load, rates, on_gpu)
    # For `safety-tax status`, until the stages themselves have run here.
    write_json(
        EXPECTED, {"size": params.size} | {of: seconds_of_one(seconds, params.of(of)) for of, seconds in times.items()}
    )
    for stage in next(iter(times.values())):
        table.add_row(stage, *(total([seconds[stage]]) for seconds in times.values()))
    if params.curvature.forms or params.importance.donors or params.judge_models:
        say("  not in these times: `curvature`, `importance`, and judging by a model")
    table.add_row("in all, without downloads", *(total(list(seconds.values())) for seconds in times.values()))
    console.print(table, markup=False)


def show(findings: list[Finding]) -> None:
    """The table."""
    table = Table("", "what", "found", "needed")
    for finding in findings:
        status = "NO" if finding.step is not None else "ok" if finding.wanted else "-"
        table.add_row(status, finding.what, finding.found, finding.needed)
    console.print(table, markup=False)


def check_cache() -> list[Finding]:
    """Every object of DVC's cache against its name: DVC itself takes a damaged one for whole."""
    from dvc.repo import Repo  # here: it takes a second to import

    with Repo(".") as repo:
        cache = Path(repo.cache.local_cache_dir)
    findings = []
    for file, links in damaged_objects(cache, Path.cwd()):
        remove = " and ".join(str(path) for path in (file, *links))
        findings.append(Finding(file.name, "another content", "its MD5", f"remove {remove}, then run `dvc repro`"))
    return findings or [Finding("DVC's cache", "every object is whole", str(cache))]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("--cache", action="store_true", help="read all of DVC's cache, too, and name what is damaged")
    parser.add_argument("--no-time", action="store_true", help="leave out the 20 seconds that measure this machine")


def run(arguments: argparse.Namespace) -> None:
    """The command."""
    params = load_params()
    say(f"doctor: {', '.join(params.models)}, {len(params.recipes)} recipes, size {params.size}")
    findings = check_python() + check_git() + check_provider(params.run.provider)
    # Torch and ONNX Runtime want libraries of their own: either may find the GPU without the other.
    gpu, on_gpu = gpu_memory(), params.run.provider != "cpu" and cuda_problem() is None
    sources, sizes = check_sources(params)
    findings += sources + check_room(params, sizes, gpu, on_gpu) + check_remote()
    findings += check_cache() if arguments.cache else []
    show(findings)
    reasons = [f"{finding.what}: {finding.step}" for finding in findings if finding.step is not None]
    if reasons:
        raise PipelineError(f"This run cannot succeed here. {' | '.join(reasons)}")
    if not arguments.no_time:
        show_times(params, sizes.models, on_gpu)
    if advice := first_commit_advice():
        say(advice)
    left_out = unchecked(params, sizes)
    if left_out:
        say(f"doctor: nothing found speaks against a run; not checked, until fetched: {'; '.join(left_out)}")
    else:
        say("doctor: nothing speaks against a run")
