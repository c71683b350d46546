"""Runs in the environment of LM_EVAL_PYTHON: lm-evaluation-harness on the tasks of a folder, one order a line.

`python lm_eval_worker.py WEIGHTS TASKS`; an order is {"task", "rows", "items", "result"} in JSON.
"""

import json
import os
import sys
import time
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(Path(sys.argv[2]) / "cache")}

from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager


def main() -> None:
    model = HFLM(pretrained=sys.argv[1], device="cpu", dtype="float32", batch_size=1)
    manager = TaskManager(include_path=sys.argv[2], include_defaults=False)
    print("ready", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        model.batch_size_per_gpu = order["rows"]
        start = time.perf_counter()
        found = simple_evaluate(
            model=model, tasks=[order["task"]], task_manager=manager, limit=order["items"], bootstrap_iters=0
        )
        seconds = time.perf_counter() - start
        samples = sorted(found["samples"][order["task"]], key=lambda sample: sample["doc_id"])
        logprobs = [[float(answer[0]) for answer in sample["filtered_resps"]] for sample in samples]
        Path(order["result"]).write_text(json.dumps({"seconds": seconds, "logprobs": logprobs}), encoding="utf-8")
        print("done", flush=True)


if __name__ == "__main__":
    main()
