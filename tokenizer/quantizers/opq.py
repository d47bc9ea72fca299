"""OPQ: after a learnt rotation, each level quantizes its own block of columns. Without the rotation it is plain PQ.

The codes of different levels are parallel: no level refines another. Product quantization is from Jegou, Douze and Schmid
(2011). The rotation is from Ge, He, Ke and Sun (2013, see `tokenizer.quantizers.rotation`): their non-parametric method,
started from their parametric solution.
"""

from itertools import accumulate
from typing import Self

import numpy as np
from scipy import sparse

from tokenizer.clustering.kmeans import Clusters, lloyd
from tokenizer.clustering.nearest import nearest_rows, row_chunks
from tokenizer.common.checks import check_vectors
from tokenizer.quantizers import Quantizer, by_level
from tokenizer.quantizers.residual_kmeans import sample_rows
from tokenizer.quantizers.rotation import balanced_rotation, block_widths, procrustes
from tokenizer.quantizers.scaling import Scaling
from tokenizer.quantizers.spec import OPQSpec

START_ROWS, START_ROUNDS = 1 << 15, 3  # rows and rounds of k-means that decide between two initial rotations
MOST_ROWS = 1 << 16  # rows processed at once, at most


class OPQ(Quantizer):
    """Product quantizer: level l quantizes block l of the columns of x R, where x is scaled and R is a rotation.

    Blocks have equal numbers of columns, up to one. With more levels than columns, the last levels have no column and use one
    code. rotation: learn R, or keep the columns unchanged. iterations: rounds of rotation, and then of k-means per block, at
    most. fit_rows: size of a random sample to fit on (None: all rows).
    """

    title = "OPQ"
    settings_class = OPQSpec
    settings: OPQSpec
    _rotation_DD: np.ndarray
    _blocks: list[np.ndarray]  # codebooks without their zero columns, [V,d] per level

    def fit(self, x_ND: np.ndarray) -> Self:
        """Learn scale, rotation and codebooks from [N,D] vectors; TokenizerError for NaN, infinity or no rows.

        The fitted rows are held once as float32; the rotation and its moments are D x D.
        """
        x_ND = sample_rows(check_vectors(x_ND), self.settings.fit_rows, self.seed)
        self._scaling = Scaling.of(x_ND)
        self._rotation_DD = np.eye(x_ND.shape[1], dtype=np.float32)
        if self.settings.rotation:
            self._choose_start(sample_rows(x_ND, START_ROWS, self.seed))
            turn_DD = self._alternate(self._rotated_blocks(x_ND))
            self._rotation_DD = np.asarray(self._rotation_DD @ turn_DD, dtype=np.float32)
        # Rotate in one step as `encode` does: the rounding of many steps could take the last rows from rare codes.
        results = self._fit_blocks(self._rotated_blocks(x_ND), self.settings.iterations)
        self._blocks = [result.centroids_KD for result in results]
        return self

    def _choose_start(self, x_ND: np.ndarray) -> None:
        """Start from the balanced principal directions, or from the unrotated columns if k-means has a lower error there.

        The principal directions are optimal for normal data. On vectors with clusters, such as text, they can mix clusters.
        """
        starts = (balanced_rotation(self._covariance(x_ND), self.level_sizes).astype(np.float32), self._rotation_DD)
        errors = []
        for rotation_DD in starts:
            self._rotation_DD = rotation_DD
            results = self._fit_blocks(self._rotated_blocks(x_ND), iterations=START_ROUNDS)
            errors.append(sum(result.inertia for result in results))
        self._rotation_DD = starts[int(np.argmin(errors))]

    def _covariance(self, x_ND: np.ndarray) -> np.ndarray:
        """Covariance of the scaled rows, float64 [D,D]."""
        total_DD = np.zeros((x_ND.shape[1], x_ND.shape[1]))
        for rows in self._parts(*x_ND.shape):
            part_RD = self._scaling.apply(x_ND[rows])
            total_DD += part_RD.T @ part_RD
        return total_DD / len(x_ND)

    def _rotated_blocks(self, x_ND: np.ndarray) -> list[np.ndarray]:
        """The scaled and rotated rows, divided into one array [N,d] per level."""
        blocks = [
            np.empty((len(x_ND), width), dtype=np.float32) for width in block_widths(x_ND.shape[1], self.level_sizes)
        ]
        for rows in self._parts(*x_ND.shape):
            _write(blocks, rows, self._scaling.apply(x_ND[rows]) @ self._rotation_DD)
        return blocks

    def _fit_blocks(self, blocks: list[np.ndarray], iterations: int) -> list[Clusters]:
        return [
            lloyd(block_Nd, size, iterations=iterations, seed=self.seed + level)
            for level, (block_Nd, size) in enumerate(zip(blocks, self.level_sizes, strict=True))
        ]

    def _alternate(self, blocks: list[np.ndarray]) -> np.ndarray:
        """Alternate rounds of k-means and Procrustes rotations; rotate the rows in place and return the total rotation [D,D].

        For rows Y and their decoded codes Z, Y^T Z is the sum of Y per code times the codebook, so Z is never built.
        """
        ends = list(accumulate(block_Nd.shape[1] for block_Nd in blocks))
        total_DD, turn_DD = np.eye(ends[-1]), np.eye(ends[-1], dtype=np.float32)
        codebooks = [result.centroids_KD for result in self._fit_blocks(blocks, iterations=1)]
        for _ in range(self.settings.iterations):
            sums, loads = self._turn_and_sum(blocks, codebooks, turn_DD)
            moments = []
            for level, end in enumerate(ends):
                used = loads[level] > 0
                own = slice(end - blocks[level].shape[1], end)
                codebooks[level][used] = sums[level][used, own] / loads[level][used, None]
                moments.append(sums[level].T @ codebooks[level])
            step_DD = procrustes(np.concatenate(moments, axis=1))
            total_DD = total_DD @ step_DD
            turn_DD = step_DD.astype(np.float32)
        self._turn_and_sum(blocks, codebooks, turn_DD)
        return total_DD

    def _turn_and_sum(
        self, blocks: list[np.ndarray], codebooks: list[np.ndarray], turn_DD: np.ndarray
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Rotate the rows in place. Return for each level the sums of whole rows per code, float64 [V,D], and counts [V]."""
        sums = [np.zeros((size, len(turn_DD))) for size in self.level_sizes]
        loads = [np.zeros(size) for size in self.level_sizes]
        for rows in self._parts(len(blocks[0]), len(turn_DD)):
            row_RD = np.concatenate([block_Nd[rows] for block_Nd in blocks], axis=1) @ turn_DD
            _write(blocks, rows, row_RD)
            for level, size in enumerate(self.level_sizes):
                codes_R = nearest_rows(blocks[level][rows], codebooks[level])
                ones_R, shape = np.ones(len(row_RD), dtype=np.float32), (size, len(row_RD))
                sums[level] += sparse.csr_matrix((ones_R, (codes_R, np.arange(len(row_RD)))), shape) @ row_RD
                loads[level] += np.bincount(codes_R, minlength=size)
        return sums, loads

    def encode(self, x_ND: np.ndarray) -> np.ndarray:
        """Codes int32 [N,L] of vectors [N,D]: the nearest codebook row in each block."""
        x_ND = self._checked(x_ND)
        codes_NL = np.empty((len(x_ND), len(self.level_sizes)), dtype=np.int32)
        for rows in self._parts(*x_ND.shape):
            blocks = self._rotated_blocks(x_ND[rows])
            for level, (block_Rd, codebook_Vd) in enumerate(zip(blocks, self._blocks, strict=True)):
                codes_NL[rows, level] = nearest_rows(block_Rd, codebook_Vd)
        return codes_NL

    def decode(self, codes_NL: np.ndarray) -> np.ndarray:
        """Vectors float32 [N,D] that the codes represent."""
        codes_NL = self._checked_codes(codes_NL)
        x_ND = np.empty((len(codes_NL), len(self._rotation_DD)), dtype=np.float32)
        for rows in self._parts(*x_ND.shape):
            parts = [block_Vd[codes_NL[rows, level]] for level, block_Vd in enumerate(self._blocks)]
            x_ND[rows] = self._scaling.undo(np.concatenate(parts, axis=1) @ self._rotation_DD.T)
        return x_ND

    def latent(self, x_ND: np.ndarray) -> np.ndarray:
        """Scaled and rotated vectors float32 [N,D]: the space in which codebook rows add up."""
        x_ND = self._checked(x_ND)
        latent_ND = np.empty(x_ND.shape, dtype=np.float32)
        for rows in self._parts(*x_ND.shape):
            latent_ND[rows] = self._scaling.apply(x_ND[rows]) @ self._rotation_DD
        return latent_ND

    @property
    def codebooks(self) -> list[np.ndarray]:
        """One float32 [V,D] array per level; columns of other blocks are zero."""
        self._check_fitted()
        width = len(self._rotation_DD)
        ends = accumulate(block_Vd.shape[1] for block_Vd in self._blocks)
        return [
            np.pad(block_Vd, ((0, 0), (end - block_Vd.shape[1], width - end)))
            for block_Vd, end in zip(self._blocks, ends, strict=True)
        ]

    def state_dict(self) -> dict[str, np.ndarray]:
        """Mean, scale, rotation (if one was learnt) and the codebooks of the blocks as named arrays."""
        self._check_fitted()
        rotation = {"rotation": self._rotation_DD} if self.settings.rotation else {}
        return self._scaling.arrays() | rotation | by_level("codebook", self._blocks)

    def _make_room(self, width: int) -> None:
        self._scaling = Scaling.blank(width)
        self._rotation_DD = np.eye(width, dtype=np.float32)
        shapes = zip(self.level_sizes, block_widths(width, self.level_sizes), strict=True)
        self._blocks = [np.zeros(shape, dtype=np.float32) for shape in shapes]

    def _parts(self, rows: int, width: int) -> list[slice]:
        """Chunks of rows; four float32 copies of a chunk fit into half of memory_mib."""
        most = MOST_ROWS * width
        return row_chunks(rows, width, min(most, (self.memory_mib << 19) // 16))


def _write(blocks: list[np.ndarray], rows: slice, row_RD: np.ndarray) -> None:
    """Divide rows by columns and store the parts in the blocks."""
    ends = list(accumulate(block_Nd.shape[1] for block_Nd in blocks))
    for block_Nd, part_Rd in zip(blocks, np.split(row_RD, ends[:-1], axis=1), strict=True):
        block_Nd[rows] = part_Rd
