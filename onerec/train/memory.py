"""How the process treats memory that it has freed."""

import ctypes
import platform

# Of glibc's mallopt; what they mean is in its manual page.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT_BYTES = 512 * 2**20
LARGEST_KEPT_BLOCK = 32 * 2**20  # glibc takes no more


def keep_freed_memory() -> bool:
    """Keep up to half a GiB of freed memory for the next allocation, and say whether the system's allocator does so.

    A step frees activations of a megabyte or so and asks for the same again a moment later. glibc gives such blocks back to the
    system and gets them back page by page, each page zeroed first: on a CPU a good part of a beam search's time. Only glibc
    is known to need this and to understand it; elsewhere nothing happens.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    set_option = ctypes.CDLL(None).mallopt
    return bool(set_option(M_MMAP_THRESHOLD, LARGEST_KEPT_BLOCK) == 1 and set_option(M_TRIM_THRESHOLD, KEPT_BYTES) == 1)
