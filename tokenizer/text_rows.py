"""Many short texts as one array of UTF-8 bytes and one of offsets: what a memory-mapped file can hold.

Text n is `text_bytes[offsets[n] : offsets[n + 1]]`. Everything here works on whole arrays.
"""

import numpy as np
import polars as pl

BLOCK = 1 << 16  # texts whose bytes are unfolded at once
BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, so its powers never vanish modulo 2^64


def to_bytes(texts: pl.Series) -> tuple[np.ndarray, np.ndarray]:
    """uint8 bytes, with one unused zero at the end so that they are never empty, and int64 offsets [N+1]."""
    offsets = np.zeros(len(texts) + 1, dtype=np.int64)
    np.cumsum(texts.str.len_bytes().to_numpy(), out=offsets[1:])
    text_bytes = np.zeros(offsets[-1] + 1, dtype=np.uint8)
    for start in range(0, len(texts), BLOCK):
        end = min(start + BLOCK, len(texts))
        joined = "".join(texts[start:end].to_list()).encode()
        text_bytes[offsets[start] : offsets[end]] = np.frombuffer(joined, dtype=np.uint8)
    return text_bytes, offsets


def hash_rows(text_bytes: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """A polynomial of the bytes modulo 2^64, uint64 [N]. Equal texts have equal hashes; others rarely do, but may."""
    hashes_N = np.zeros(len(offsets) - 1, dtype=np.uint64)
    longest = int(np.diff(offsets).max(initial=0))
    with np.errstate(over="ignore"):  # modulo 2^64 is meant
        powers = np.multiply.accumulate(np.full(longest + 1, BASE))
        for start in range(0, len(hashes_N), BLOCK):
            starts = offsets[start : start + BLOCK + 1]
            lengths = np.diff(starts)
            position = np.arange(starts[-1] - starts[0]) - np.repeat(starts[:-1] - starts[0], lengths)
            terms = (text_bytes[starts[0] : starts[-1]].astype(np.uint64) + np.uint64(1)) * powers[position]
            filled = lengths > 0
            block = hashes_N[start : start + BLOCK]  # a view
            block[filled] = np.add.reduceat(terms, (starts[:-1] - starts[0])[filled]) if filled.any() else 0
    return hashes_N


def equal_rows(
    left: tuple[np.ndarray, np.ndarray],
    left_rows: np.ndarray,
    right: tuple[np.ndarray, np.ndarray],
    right_rows: np.ndarray,
) -> np.ndarray:
    """Bool [R]: text left_rows[r] of `left` is text right_rows[r] of `right`; both are bytes and offsets."""
    left_lengths, right_lengths = left[1][left_rows + 1] - left[1][left_rows], np.diff(right[1])[right_rows]
    equal_R = np.asarray(left_lengths == right_lengths)
    compared = np.flatnonzero(equal_R)
    lengths = np.asarray(left_lengths[compared])
    different = (
        left[0][_flat(left[1], left_rows[compared], lengths)]
        != right[0][_flat(right[1], right_rows[compared], lengths)]
    )
    equal_R[np.repeat(compared, lengths)[different]] = False
    return equal_R


def take(text_bytes: np.ndarray, offsets: np.ndarray, rows: np.ndarray) -> list[str]:
    """The texts of some rows."""
    return [text_bytes[offsets[row] : offsets[row + 1]].tobytes().decode() for row in rows]


def _flat(offsets: np.ndarray, rows: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Positions of all bytes of some rows, one row after the other."""
    ends = np.cumsum(lengths)
    return np.asarray(np.arange(int(ends[-1]) if len(ends) else 0) + np.repeat(offsets[rows] - ends + lengths, lengths))
