"""Freed memory is kept: repeating an allocation costs no page faults."""

import json
import platform
import subprocess
import sys

import pytest

SCRIPT = """
import json, resource, sys
import torch
from onerec.train.memory import keep_freed_memory

kept = keep_freed_memory() if sys.argv[1] == "keep" else False
torch.set_num_threads(1)
other = torch.zeros(400, 1024)

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        # 20 MiB in pieces that are alive together and freed together, as a step's activations are.
        pieces = [other + 1 for _ in range(13)]
        del pieces
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
print(json.dumps({"kept": kept, "faults": faults()}))
"""


def measured(how: str) -> dict[str, int]:
    done = subprocess.run([sys.executable, "-c", SCRIPT, how], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator is told to keep memory")
def test_an_allocation_that_was_just_freed_is_not_paged_in_again() -> None:
    usual, keeping = measured("usual"), measured("keep")
    assert keeping["kept"]
    # If all memory came from the system each time, there would be 400 faults for each of 13 pieces and 20 rounds. glibc keeps
    # some pages by itself; how many depends on what was freed before. Kept memory needs none.
    assert keeping["faults"] < min(1_000, usual["faults"] / 5)


def test_systems_without_glibc_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from onerec.train import memory

    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert memory.keep_freed_memory() is False
