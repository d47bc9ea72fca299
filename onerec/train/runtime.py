"""What to compute on, and with how many threads."""

import os

import torch
from accelerate.utils import parse_flag_from_env

SMALL_WIDTH = 96


def compute_on_cpu() -> bool:
    """Whether to compute on the CPU: there is nothing else, or `accelerate launch --cpu` asked for it.

    `accelerate` must be told: left to itself it takes processes that a launcher started on a machine without a GPU for
    strangers, and each would train the whole run in the same folder.
    """
    return parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()


def lone_process_note() -> str | None:
    """What to tell a user who asked `accelerate launch` for several processes and got one, or None.

    Its launcher for CPUs announces a meeting point for all processes and starts a single one, whatever `--num_processes` says.
    """
    if "MASTER_ADDR" in os.environ and not {"WORLD_SIZE", "LOCAL_RANK"} & set(os.environ):
        return "accelerate started one process only; with --multi_gpu it starts as many as asked for, on CPUs too"
    return None


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
