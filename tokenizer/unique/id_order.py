"""IDs in sorted order: one number per ID that sorts as its codes do, and the IDs taken under each prefix."""

import numpy as np


def sort_keys(codes_NL: np.ndarray) -> np.ndarray:
    """One key per row, int64 [N]: equal for equal rows, and ordered like the rows compared code by code.

    A row is read as a number whose digits are the codes. If such a number would exceed 63 bits, the rank among the rows
    replaces the digits so far, so keys of different calls must not be compared.
    """
    key_N, span = np.zeros(len(codes_NL), dtype=np.int64), 1
    for column_N in np.asarray(codes_NL).T:
        size = int(column_N.max(initial=0)) + 1
        if span * size > np.iinfo(np.int64).max:
            key_N = group_numbers(key_N)
            span = int(key_N.max(initial=0)) + 1
        key_N *= size
        key_N += column_N
        span *= size
    return key_N


def group_numbers(key_N: np.ndarray) -> np.ndarray:
    """Number the groups of equal keys from 0 in the order of the keys, int64 [N]."""
    order_N = np.argsort(key_N, kind="stable")
    group_N = np.empty(len(key_N), dtype=np.int64)
    group_N[order_N] = np.cumsum(first_of_run(key_N[order_N])) - 1
    return group_N


def first_of_run(sorted_N: np.ndarray) -> np.ndarray:
    """Values that differ from the one before, bool [N]."""
    first_N = np.ones(len(sorted_N), dtype=bool)
    np.not_equal(sorted_N[1:], sorted_N[:-1], out=first_N[1:])
    return first_N


def all_different(codes_NL: np.ndarray) -> bool:
    """Whether no two rows have the same codes."""
    sorted_N = np.sort(sort_keys(codes_NL))
    return not bool((sorted_N[1:] == sorted_N[:-1]).any())


class TakenIds:
    """A set of IDs [N,L], sorted once. It tells which codes are used under a prefix, and which have room left."""

    def __init__(self, ids_NL: np.ndarray, level_sizes: list[int]) -> None:
        self._columns = np.ascontiguousarray(ids_NL[np.argsort(sort_keys(ids_NL))].T)
        self._level_sizes = level_sizes
        self._capacity = [1] * len(level_sizes)  # IDs under one code of a level; Python ints, which may exceed 64 bits
        for level in range(len(level_sizes) - 2, -1, -1):
            self._capacity[level] = self._capacity[level + 1] * level_sizes[level + 1]
        self._counts: dict[tuple[int, ...], np.ndarray] = {}

    def below(self, prefix: tuple[int, ...]) -> np.ndarray:
        """Codes on the level after the prefix, one per ID under the prefix; IDs marked by `take` are not included."""
        start, end = 0, self._columns.shape[1]
        for level, code in enumerate(prefix):  # the IDs are sorted, so each code narrows the range of columns
            column = self._columns[level, start:end]
            wanted = column.dtype.type(code)  # with another type, NumPy would convert the whole column
            first, last = np.searchsorted(column, wanted), np.searchsorted(column, wanted, side="right")
            start, end = start + int(first), start + int(last)
        return np.asarray(self._columns[len(prefix), start:end])

    def open_codes(self, prefix: tuple[int, ...]) -> np.ndarray:
        """Codes on the level after the prefix that have a free ID under them, bool [V]."""
        return self._count(prefix) < min(self._capacity[len(prefix)], np.iinfo(np.int64).max)

    def take(self, codes: tuple[int, ...]) -> None:
        """Mark one more ID as taken, for `open_codes`."""
        for level in range(len(codes)):
            self._count(codes[:level])[codes[level]] += 1

    def _count(self, prefix: tuple[int, ...]) -> np.ndarray:
        """Number of IDs under each code; counted when a prefix is first used."""
        if prefix not in self._counts:
            self._counts[prefix] = np.bincount(self.below(prefix), minlength=self._level_sizes[len(prefix)])
        return self._counts[prefix]
