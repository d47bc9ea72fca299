"""What the process does with memory that it has freed."""

import ctypes
import platform

# Options of glibc's mallopt; its manual page explains them.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT_BYTES = 512 * 2**20
LARGEST_KEPT_BLOCK = 32 * 2**20  # glibc takes no more


def keep_freed_memory() -> bool:
    """Keep up to half a GiB of freed memory for the next allocation. Returns whether the system's allocator does so.

    A step frees activations of about a megabyte and needs the same again a moment later. glibc returns such blocks to the
    system and gets them back page by page, each page zeroed first. On a CPU this takes a good part of the time of a beam
    search. The options exist in glibc only, so on other systems nothing happens.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    set_option = ctypes.CDLL(None).mallopt
    return bool(set_option(M_MMAP_THRESHOLD, LARGEST_KEPT_BLOCK) == 1 and set_option(M_TRIM_THRESHOLD, KEPT_BYTES) == 1)
