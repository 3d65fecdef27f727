"""Independent tasks over the workers of a ``concurrent.futures.Executor``, with the numbers that one process gives.

    for score in map_in_order(work, common, tasks, executor, share): ...

``work(common, task)`` is a function at the top of a module; ``common`` is a frozen dataclass, what all tasks share. Its
models and datasets go once to each worker, by their content; results come back in the order of the tasks, so that
whatever is summed up of them is the same for any number of workers.

::

    tasks      map_in_order, as_finished: tasks out, results back, lost ones again
    ├── parcel     what tasks have in common, taken apart here and put together in the worker; in files of this machine
    cluster    the same through the workers of a Dask cluster
"""

from onnxprune.spread.parcel import Share, own
from onnxprune.spread.tasks import AHEAD, Lost, Watched, as_finished, map_in_order

__all__ = [
    "AHEAD",
    "Lost",
    "Share",
    "Watched",
    "as_finished",
    "map_in_order",
    "own",
]
