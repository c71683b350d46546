"""Several tensors at once, one a processor, within a bound on memory; results come in order."""

from collections import deque
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")


def in_order(
    work: Callable[[str], Result], sizes: Mapping[str, int], most: int, workers: int
) -> Generator[Result, None, None]:
    """`work(name)` for each name of `sizes`, in their order, on `workers` threads.

    What was begun and not yet taken is together no larger than `most`; what is larger than that is worked on alone.
    NumPy lets other threads run while it computes. An exception of `work` is raised in the place of its result.
    """
    waiting = deque(sizes.items())
    begun: deque[tuple[Future[Result], int]] = deque()
    held = 0
    with ThreadPoolExecutor(workers) as pool:
        try:
            while waiting or begun:
                # Twice as many as work, so that nobody waits for the one whose turn it is to be taken.
                while waiting and len(begun) < 2 * workers and (not begun or held + waiting[0][1] <= most):
                    name, size = waiting.popleft()
                    begun.append((pool.submit(work, name), size))
                    held += size
                future, size = begun.popleft()
                yield future.result()
                held -= size
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
