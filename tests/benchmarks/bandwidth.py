"""How much of a GPU's memory bandwidth decoding reaches: each step reads every weight and every row's past once."""

import statistics

import numpy as np
import torch

from safety_tax.engine.session import ModelSession
from safety_tax.engine.weight_files import weights_bytes
from tests.benchmarks.pairing import timed

COPIED = 1 << 30


def copy_bandwidth() -> float:
    """Bytes a second, read and written, of the card's own copy of a gigabyte, best of ten."""
    source = torch.zeros(COPIED, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)

    def copy() -> None:
        target.copy_(source)
        torch.cuda.synchronize()

    copy()
    return 2 * COPIED / min(timed(copy)[0] for _ in range(10))


def decoding_bandwidth(session: ModelSession, rows: int, length: int) -> tuple[float, float]:
    """New tokens a second of steps of `rows` rows after `length` tokens, and the bytes a second that they must read.

    The logits of a step are on the host when it is timed.
    """
    prompt = np.full((rows, length), 100, np.int64)
    places = np.broadcast_to(np.arange(length, dtype=np.int64), prompt.shape)
    last = np.full((rows, 1), length - 1, np.int64)
    past = session.run(prompt, np.ones_like(prompt), places, last, session.empty_past(rows)).past
    mask = np.ones((rows, length + 1), np.int64)

    def step() -> None:
        session.run(prompt[:, :1], mask, last + 1, np.zeros_like(last), past)

    step()
    spent = statistics.median(timed(step)[0] for _ in range(9))
    of_past = sum(int(np.prod(value.shape())) * np.dtype(session.dtype).itemsize for value in past)
    return rows / spent, (weights_bytes(session.folder) + of_past) / spent
