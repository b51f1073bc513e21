"""Work done ahead in threads, in order, at constant memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def prefetch_map(
    work: Callable[[Item], Result], items: Iterable[Item], *, workers: int = 2, waiting: int = 64
) -> Iterator[Result]:
    """`map` in threads.

    Args:
        work: called in a thread; an exception comes out where its result would.
        items: any number, taken one by one as they are needed.
        workers: threads; Pillow lets go of the interpreter while it decodes.
        waiting: how many results may wait.

    Yields:
        Results in the order of the items.

    """
    with ThreadPoolExecutor(workers, thread_name_prefix="ahead") as pool:
        begun: deque[Future[Result]] = deque()
        try:
            for item in items:
                begun.append(pool.submit(work, item))
                if len(begun) > waiting:
                    yield begun.popleft().result()
            while begun:
                yield begun.popleft().result()
        finally:  # whoever stops listening wants no more of it
            for future in begun:
                future.cancel()
