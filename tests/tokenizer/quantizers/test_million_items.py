"""Every quantizer stays within its memory setting on a million items, measured in a process of its own: this file, run."""

import ctypes
import gc
import json
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from tokenizer.quantizers.spec import Method, QuantizerSpec, make_quantizer

ITEMS, WIDTH, LEVEL_SIZES, MEMORY_MIB = 1_000_000, 8, [64, 32], 32
# Beside the setting: a few whole numbers per item (codes while they are 64 bits wide, loads, order of rows), and what
# the allocator keeps. Items times codes of the first level would be 244 MiB of float32.
SLACK_MIB = 64
NETWORK = {"hidden": [16], "steps": 20, "batch_size": 256}
SETTINGS: dict[Method, dict[str, Any]] = {
    "rq_kmeans": {"iterations": 1},
    "balanced_rq_kmeans": {"iterations": 1, "fit_rows": 200_000},  # all the rows are encoded, which is the same work
    "rq_kmeans_plus": NETWORK,
    "rq_vae": {**NETWORK, "latent_dimensions": 8},
    "residual_fsq": NETWORK,
    "opq": {"iterations": 1},
    "random": {},
    "hash": {},
}


def status_mib(key: str) -> float:
    """A line of this process's status; VmRSS is memory now, VmHWM the most since the last reset."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 1024


def growth(work: Callable[[], Any]) -> tuple[Any, float]:
    """Result of the work, and by how many MiB memory peaked above what it was before."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what the work before this has freed is given back: it would hide a peak
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = status_mib("VmRSS")
    result = work()
    return result, status_mib("VmHWM") - before


def main() -> None:
    rng = np.random.default_rng(0)
    x = np.empty((ITEMS, WIDTH), dtype=np.float32)
    centres = 3 * rng.normal(size=(50, WIDTH)).astype(np.float32)
    for start in range(0, ITEMS, 100_000):
        block = x[start : start + 100_000]
        block[:] = centres[rng.integers(50, size=len(block))] + rng.normal(size=block.shape).astype(np.float32)
    vectors_mib, codes_mib = x.nbytes / 2**20, ITEMS * len(LEVEL_SIZES) * 4 / 2**20
    figures = []
    for method, settings in SETTINGS.items():
        spec = QuantizerSpec.model_validate({"method": method, method: settings, "memory_mib": MEMORY_MIB})
        make_quantizer(spec, LEVEL_SIZES).fit(x[:500]).encode(x[:500])  # imports are not counted
        quantizer, fitting = growth(lambda spec=spec: make_quantizer(spec, LEVEL_SIZES).fit(x))
        codes, encoding = growth(lambda quantizer=quantizer: quantizer.encode(x))
        decoded, decoding = growth(lambda quantizer=quantizer, codes=codes: quantizer.decode(codes))
        for verb, peak, returned_mib in (
            ("fit", fitting, vectors_mib),  # nothing is returned, but the rows are copied once
            ("encode", encoding, codes_mib),
            ("decode", decoding, decoded.nbytes / 2**20),
        ):
            allowed = returned_mib + MEMORY_MIB + SLACK_MIB
            figures.append({"method": method, "verb": verb, "peak_mib": peak, "allowed_mib": allowed})
        del quantizer, codes, decoded
    print(json.dumps(figures))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="peaks of memory are read by means of Linux and glibc")
def test_a_million_items_within_the_memory_setting() -> None:
    done = subprocess.run([sys.executable, __file__], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert {figure["method"] for figure in figures} == set(get_args(Method))
    for figure in figures:
        assert figure["peak_mib"] <= figure["allowed_mib"], figure


if __name__ == "__main__":
    main()
