"""The same work by other libraries: Transformers' and Optimum's `generate`, and lm-evaluation-harness."""

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import onnx
import torch
import yaml

from safety_tax.core.errors import PipelineError
from safety_tax.engine.gqa.session import GROUPED_GRAPH
from safety_tax.engine.session import CPU, GRAPH, LOGIT_POSITIONS

WORKER = Path(__file__).with_name("lm_eval_worker.py")


def generate(network: Any, prompts: list[list[int]], stop: int, new_tokens: int, rows: int) -> list[list[int]]:
    """Greedy tokens of a Transformers or Optimum model's `generate`, left-padded batches of similar length."""
    order = sorted(range(len(prompts)), key=lambda item: len(prompts[item]))
    found: list[list[int]] = [[] for _ in prompts]
    for start in range(0, len(order), rows):
        batch = order[start : start + rows]
        width = max(len(prompts[item]) for item in batch)
        ids = torch.full((len(batch), width), stop)
        mask = torch.zeros_like(ids)
        for row, item in enumerate(batch):
            ids[row, width - len(prompts[item]) :] = torch.tensor(prompts[item])
            mask[row, width - len(prompts[item]) :] = 1
        ids, mask = ids.to(network.device), mask.to(network.device)
        with torch.inference_mode():
            out = network.generate(
                input_ids=ids, attention_mask=mask, max_new_tokens=new_tokens, do_sample=False, pad_token_id=stop
            )
        for row, item in enumerate(batch):
            tokens = out[row, width:].tolist()
            found[item] = tokens[: tokens.index(stop)] if stop in tokens else tokens
    return found


def gap_at_difference(network: Any, prompt: list[int], one: list[int], other: list[int], stop: int) -> float:
    """How far the two most likely tokens lie apart, in logits, where two answers to `prompt` first differ."""
    one, other = [*one, stop], [*other, stop]
    place = next(n for n, (left, right) in enumerate(zip(one, other, strict=False)) if left != right)
    ids = torch.tensor([prompt + one[:place]], device=network.device)
    with torch.inference_mode():
        highest = network(ids, logits_to_keep=1).logits[0, -1].float().topk(2).values
    return float(highest[0] - highest[1])


def optimum_model(folder: Path, scratch: Path) -> Any:
    """Optimum's model of the traced graph of `folder`, with logits everywhere again, as Optimum exports it."""
    from optimum.onnxruntime import ORTModelForCausalLM  # here: slow to import

    model = onnx.load(str(folder / GRAPH), load_external_data=False)
    graph = model.graph
    gather = next(node for node in graph.node if "wanted_hidden" in node.output)
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name == gather.output[0]:
                node.input[place] = gather.input[0]
    for node in [node for node in graph.node if node.name in ("wanted_hidden", "logit_indices")]:
        graph.node.remove(node)
    graph.input.remove(next(entry for entry in graph.input if entry.name == LOGIT_POSITIONS))
    graph.initializer.remove(next(entry for entry in graph.initializer if entry.name == "logit_positions_axis"))
    logits = next(output for output in graph.output if output.name == "logits")
    logits.type.tensor_type.shape.dim[1].dim_param = "sequence_length"
    (scratch / GRAPH).write_bytes(model.SerializeToString())
    for file in folder.iterdir():
        if file.name not in (GRAPH, GROUPED_GRAPH):
            shutil.copyfile(file, scratch / file.name)
    return ORTModelForCausalLM.from_pretrained(scratch, use_io_binding=False, provider=CPU)


class Asked(NamedTuple):
    """A question as lm-evaluation-harness gets it; a space stands between context and choice."""

    context: str
    choices: list[str]
    gold: int


class Harness:
    """lm-evaluation-harness (hf backend, float32) in the environment of `python`, its model loaded once."""

    def __init__(self, python: str, weights: Path, folder: Path, tasks: dict[str, Sequence[Asked]]) -> None:
        """`folder` gets a task of local rows for each of `tasks`."""
        for name, rows in tasks.items():
            data = folder / f"{name}.jsonl"
            data.write_text("".join(json.dumps(row._asdict()) + "\n" for row in rows), encoding="utf-8")
            task = {
                "task": name,
                "dataset_path": "json",
                "dataset_kwargs": {"data_files": {"test": str(data)}},
                "test_split": "test",
                "output_type": "multiple_choice",
                "doc_to_text": "{{context}}",
                "doc_to_choice": "choices",
                "doc_to_target": "gold",
                "target_delimiter": " ",
                "metric_list": [{"metric": "acc"}],
            }
            (folder / f"{name}.yaml").write_text(yaml.safe_dump(task), encoding="utf-8")
        self._result = folder / "result.json"
        self._log = (folder / "worker.log").open("w+")
        self._process = subprocess.Popen(
            [python, str(WORKER), str(weights), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        self._answer("ready")

    def _answer(self, expected: str) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.strip() == expected:
                return
        self._log.seek(0)
        last = (self._log.read().strip().splitlines() or ["nothing"])[-1]
        raise PipelineError(
            f"Expected lm-evaluation-harness to run, found: {last}; see that LM_EVAL_PYTHON has lm_eval."
        )

    def run(self, task: str, rows: int, items: int | None = None) -> tuple[float, list[list[float]]]:
        """Seconds without loading, and each choice's log-probability, of all rows or the first `items`."""
        assert self._process.stdin is not None
        order = {"task": task, "rows": rows, "items": items, "result": str(self._result)}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        self._answer("done")
        result = json.loads(self._result.read_text(encoding="utf-8"))
        return result["seconds"], result["logprobs"]

    def close(self) -> None:
        """End the process."""
        self._process.communicate()
        self._log.close()
