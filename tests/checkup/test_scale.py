"""What a large run takes: the formulas are those of what was run, the simulation that of the formulas."""

import dataclasses
import json

import pytest
import yaml
from benchmarks.scale import CLUSTERS, ONCE, Assumptions, Cluster, costs, simulate, work
from conftest import ROOT, real_params

from safety_tax.params import validated
from safety_tax.settings.donors import Donor


def test_the_size_of_a_variant_is_that_of_the_default_run() -> None:
    """dvc.lock has the bytes of SmolLM2-135M, in float32."""
    copy = costs(dataclasses.replace(Assumptions(), weights=134.5e6, weight_bytes=4)).fetch
    stages = yaml.safe_load((ROOT / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    sizes = [stage["outs"][0]["size"] for name, stage in stages.items() if name.startswith(("merge@", "export"))]
    assert len(sizes) >= 7
    for size in sizes:
        assert size == pytest.approx(copy + Assumptions().shared_bytes / 2, rel=0.03)


def test_what_the_repository_says_is_what_the_page_rests_on() -> None:
    a, params = Assumptions(), validated(real_params())
    assert a.batch == params.run.rows_per_batch
    assert a.new_tokens == params.infer.max_new_tokens.harmful
    rows = [(d.harmful + d.benign + d.choice) * d.epochs for d in params.donors.values() if isinstance(d, Donor)]
    assert a.tune_rows == pytest.approx(sum(rows) * (1 - params.tune.held_out))
    # In float32, on the queries and outputs, keys and values, and three projections of Mistral-7B's 32 layers.
    shapes = 2 * [8192] + 2 * [5120] + 3 * [18432]
    assert a.adapter_bytes == pytest.approx(4 * 32 * params.tune.rank * sum(shapes), rel=0.01)
    speed = json.loads((ROOT / "metrics/benchmarks/merge.json").read_text(encoding="utf-8"))["speed"]["ours"]
    assert a.merge_rate == pytest.approx(135e6 / speed["seconds"], rel=0.3)
    stages = yaml.safe_load((ROOT / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    of_model = [name for name in stages if "@smollm2_135m" in name]
    assert len(of_model) == ONCE + 4 * len(params.recipes)


def test_one_clone_takes_the_sum_of_its_steps() -> None:
    """With nobody to wait for, the simulation is the arithmetic."""
    a = Assumptions()
    for cluster in CLUSTERS[:2]:
        steps = [step for _ in range(int(a.models)) for step in work(a, cluster)]
        hours = sum(step.seconds + step.bytes / a.link for step in steps) / 3600
        assert simulate(a, cluster).hours == pytest.approx(hours)


def test_clones_wait_for_a_slow_remote_and_for_nothing_else() -> None:
    a = dataclasses.replace(Assumptions(), models=8, store=3.1e9)
    cluster = Cluster("eight", 8, 1, 1, 1)
    alone = simulate(dataclasses.replace(a, models=1), Cluster("one", 1, 1, 1, 1)).hours
    # The remote serves one at a time: the last of eight begins seven transfers later.
    assert simulate(a, cluster).hours == pytest.approx(alone + 7 * costs(a).fetch / a.link / 3600)
    assert simulate(dataclasses.replace(a, store=1e12), cluster).hours == pytest.approx(alone)


def test_gpus_work_no_more_than_all_the_time() -> None:
    for cluster in CLUSTERS:
        assert 0 < simulate(Assumptions(), cluster).gpu_share <= 1


def test_a_clone_for_each_gpu_keeps_them_busiest_as_the_page_advises() -> None:
    assert max(CLUSTERS, key=lambda cluster: simulate(Assumptions(), cluster).gpu_share) is CLUSTERS[-1]
