"""Random IDs: row n gets draw n, whatever its content (the "Random ID" baseline of TIGER, arXiv 2305.05065).

A baseline for every comparison: the same number of levels, the same sizes, no content in the codes.
"""

from itertools import accumulate

import numpy as np

from tokenizer.quantizers.content_free import ContentFree, mix, scatter

BLOCK_ROWS = 1 << 16
FEISTEL_ROUNDS = 8  # four rounds suffice for large halves; eight also mix halves of two or three bits


class RandomIDs(ContentFree):
    """Uniform codes that depend only on the seed and the row number; rows get different IDs as long as there are any.

    `encode` of n rows returns the first n draws, so codes belong to row numbers and not to items. Keep the artefact: in a
    reordered catalogue, items would get other IDs. `encode_new` continues after the fitted rows. A second batch of new items
    gets the same draws again, and `tokenizer.append` moves those items to free IDs.
    """

    title = "RandomIDs"

    def encode(self, x_ND: np.ndarray) -> np.ndarray:
        """The draws for rows 0, 1, 2 … as codes int32 [N,L]."""
        return self._draws(0, len(self._checked(x_ND)))

    def encode_new(self, x_ND: np.ndarray) -> np.ndarray:
        """The draws after those of the fitted rows, int32 [N,L]."""
        count = len(self._checked(x_ND))
        return self._draws(int(self._fitted_rows[0]), count)

    def _draws(self, first: int, count: int) -> np.ndarray:
        products = list(accumulate(self.level_sizes, lambda left, right: left * right))
        # on the first levels draws do not repeat; the other levels are independent
        levels = sum(product <= 1 << 62 for product in products)
        codes_NL = np.empty((count, len(self.level_sizes)), dtype=np.int32)
        for start in range(0, count, BLOCK_ROWS):
            row_R = np.arange(first + start, first + min(start + BLOCK_ROWS, count), dtype=np.uint64)
            block_RL = codes_NL[start : start + BLOCK_ROWS]
            block_RL[:, levels:] = scatter(row_R, self.level_sizes[levels:], self.seed)
            number_R = permuted(row_R, products[levels - 1], self.seed) if levels else row_R
            for level in range(levels - 1, -1, -1):
                number_R, block_RL[:, level] = np.divmod(number_R, np.uint64(self.level_sizes[level]))
        return codes_NL


def permuted(number_N: np.ndarray, capacity: int, seed: int) -> np.ndarray:
    """Apply a pseudorandom permutation of 0..capacity-1 to uint64 numbers, without a table.

    A Feistel network permutes the next larger power of four. It is applied again to each number outside the range until the
    number is inside (cycle walking; Black and Rogaway 2002, "Ciphers with arbitrary finite domains"). Numbers from `capacity`
    on repeat the first ones.
    """
    half = np.uint64(max(1, -(-(capacity - 1).bit_length() // 2)))
    mask = np.uint64((1 << int(half)) - 1)
    keys = np.random.default_rng(seed).integers(1 << 63, size=FEISTEL_ROUNDS, dtype=np.uint64)
    result_N = number_N % np.uint64(capacity)
    walking = np.arange(len(result_N))
    while len(walking):
        left, right = result_N[walking] >> half, result_N[walking] & mask
        for key in keys:
            left, right = right, left ^ (mix(right ^ key) & mask)
        result_N[walking] = (left << half) | right
        walking = walking[result_N[walking] >= np.uint64(capacity)]
    return result_N
