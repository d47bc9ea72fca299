"""MiB by which this process grows while fitting and while encoding; `benchmarks.tokenizer` starts it once per case.

python -m benchmarks.speed.memory METHOD MEMORY_MIB ROWS
"""

import sys
from pathlib import Path

import numpy as np

LEVEL_SIZES = [1024, 1024]
WIDTH = 128


def main() -> int:
    """Print the MiB by which fitting a tenth of the rows and encoding all of them grow the process, beyond vectors and result."""
    from tokenizer.quantizers.spec import quantizer_class

    method, memory_mib, rows = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    x_ND = np.random.default_rng(0).standard_normal((rows, WIDTH), dtype=np.float32)
    quantizer = quantizer_class(method)(LEVEL_SIZES, iterations=3, memory_mib=memory_mib)
    quantizer.fit(x_ND[:2000]).encode(x_ND[:2000])  # libraries allocate some memory once, which does not count
    part_MD = x_ND[: rows // 10]
    before = reset_peak()
    quantizer.fit(part_MD)
    fit = peak() - before
    before = reset_peak()
    codes_NL = quantizer.encode(x_ND)
    print(fit - part_MD.nbytes / (1 << 20), peak() - before - codes_NL.nbytes / (1 << 20))
    return 0


def reset_peak() -> float:
    """Forget the largest size of this process so far (Linux); returns its present size in MiB."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def peak() -> float:
    """Largest size of this process since the reset, MiB."""
    return _status("VmHWM")


def _status(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) / 1024


if __name__ == "__main__":
    sys.exit(main())
