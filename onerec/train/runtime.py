"""How many threads to compute with."""

import os

import torch

SMALL_WIDTH = 96


def set_threads(asked: int | None, width: int, processes: int = 1) -> int:
    """Set torch's thread count and return it.

    Args:
        asked: the config's `threads`, or None to choose.
        width: model width D. A small model's matrices are over before a second thread has woken up, and on a busy machine
            two threads then ran 13 x slower than one, so models narrower than `SMALL_WIDTH` get one thread.
        processes: training processes on this machine, which share its cores.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = asked or (1 if width < SMALL_WIDTH else max(1, cores // processes))
    torch.set_num_threads(threads)
    return threads
