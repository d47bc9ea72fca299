"""Hash IDs: the codes are a hash of the item's vector. Equal vectors share their codes; similar vectors do not.

A baseline without content that needs no table: an item's codes depend only on its vector and the seed.
"""

import hashlib

import numpy as np

from tokenizer.quantizers.content_free import ContentFree, scatter

BLOCK_ROWS = 1 << 14


class HashIDs(ContentFree):
    """Codes from BLAKE2b, keyed by the seed, of the float32 bytes of each row (little-endian, -0.0 counts as 0.0).

    The hash has 64 bits. Among ten million different vectors, two have the same hash in one of 370,000 catalogues. How many
    items share all their codes then depends on the level sizes.
    """

    title = "HashIDs"

    def encode(self, x_ND: np.ndarray) -> np.ndarray:
        """Codes int32 [N,L]; each row is hashed independently of the others."""
        x_ND = self._checked(x_ND)
        key = str(self.seed).encode()
        hash_N = np.empty(len(x_ND), dtype=np.uint64)
        for start in range(0, len(x_ND), BLOCK_ROWS):
            rows = (x_ND[start : start + BLOCK_ROWS] + np.float32(0.0)).astype("<f4")  # -0.0 + 0.0 is 0.0
            digests = b"".join(hashlib.blake2b(row, digest_size=8, key=key).digest() for row in rows)
            hash_N[start : start + BLOCK_ROWS] = np.frombuffer(digests, dtype="<u8")
        return scatter(hash_N, self.level_sizes, self.seed)
