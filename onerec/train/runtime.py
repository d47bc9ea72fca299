"""The device to compute on, and the number of threads."""

import os

import torch
from accelerate.utils import parse_flag_from_env

SMALL_WIDTH = 96


def compute_on_cpu() -> bool:
    """Whether to compute on the CPU: because there is no accelerator, or because `accelerate launch --cpu` asks for it.

    `accelerate` needs to be told. On a machine without a GPU it does not connect the processes that a launcher started, so
    each of them would train the whole run in the same folder.
    """
    return parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()


def lone_process_note() -> str | None:
    """A note for users who asked `accelerate launch` for several processes and got one; None for all others.

    The launcher for CPUs sets the address where processes meet, but starts a single one, whatever `--num_processes` says.
    """
    if "MASTER_ADDR" in os.environ and not {"WORLD_SIZE", "LOCAL_RANK"} & set(os.environ):
        return "accelerate started one process only; --multi_gpu starts as many as you ask for, on CPUs too"
    return None


def set_threads(asked: int | None, width: int, processes: int = 1) -> int:
    """Set torch's thread count and return it.

    Args:
        asked: the config's `threads`; None to choose.
        width: model width D. Models narrower than `SMALL_WIDTH` get one thread: their products end before a second thread has
            woken up, and on a busy machine two threads were 13 times slower than one.
        processes: training processes on this machine, which share its cores.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = asked or (1 if width < SMALL_WIDTH else max(1, cores // processes))
    torch.set_num_threads(threads)
    return threads
