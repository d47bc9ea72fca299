"""Residual codes: level by level the codebook row nearest to what the levels before it left over, or a beam of them.

The squared error of a row x after levels 1..l is, up to the constant |x|^2,

    sum over levels m of |c_m|^2 - 2 x.c_m  +  2 sum over pairs m < n of c_m.c_n

so one matrix product of the rows with all codebooks, and inner products between codebook rows that are made once, give
every score: no residual of D columns is ever formed. Looking those inner products up costs more than it saves where
codebooks have many more rows than columns; then residuals are formed instead, a chunk of rows at a time.
"""

import numpy as np

from tokenizer.clustering.nearest import CHUNK_ELEMENTS, Scores, nearest_rows, row_chunks

MIB = 1 << 18  # float32 values in one MiB
TABLE_ROWS_PER_COLUMN = 2  # codebook rows in total, per column, up to which looking up inner products pays


def encode_residual(
    latent_NW: np.ndarray, codebooks: list[np.ndarray], *, beam_width: int = 1, memory_mib: int = 64
) -> np.ndarray:
    """Codes int32 [N,L] of rows [N,W] for codebooks of [V,W] rows each; see `ResidualEncoder`."""
    return ResidualEncoder(codebooks, beam_width=beam_width, memory_mib=memory_mib).encode(latent_NW)


def sum_of_rows(codes_NL: np.ndarray, codebooks: list[np.ndarray]) -> np.ndarray:
    """The sum over levels of the codebook rows that the codes name, float32 [N,W]."""
    total_NW = codebooks[0][codes_NL[:, 0]].astype(np.float32)
    for level, codebook_VW in enumerate(codebooks[1:], start=1):
        total_NW += codebook_VW[codes_NL[:, level]]
    return np.asarray(total_NW)


class ResidualEncoder:
    """Finds codes for rows, with whatever can be prepared from the codebooks prepared once.

    beam_width: partial codes kept per row and level; 1 takes the nearest code level by level, more gives a lower error
    (and on the first levels codes that are not always the nearest). memory_mib: bound of the scratch memory.
    """

    def __init__(self, codebooks: list[np.ndarray], *, beam_width: int = 1, memory_mib: int = 64) -> None:
        self.codebooks = [np.ascontiguousarray(codebook_VW, dtype=np.float32) for codebook_VW in codebooks]
        self.beam_width = beam_width
        self.budget = memory_mib * MIB
        sizes = [len(codebook_VW) for codebook_VW in codebooks]
        pairs = sum(sizes[above] * size for level, size in enumerate(sizes) for above in range(level))
        width = self.codebooks[0].shape[1]
        wanted = beam_width > 1 or sum(sizes) <= TABLE_ROWS_PER_COLUMN * width
        self.uses_tables = len(sizes) > 1 and wanted and 2 * (pairs + sum(sizes) * width) <= self.budget
        if self.uses_tables:
            self.budget -= pairs + sum(sizes) * width
            self._scores = Scores(np.concatenate(self.codebooks))
            self._bounds = np.cumsum([0, *sizes])
            self._doubled_products = [
                [2.0 * (upper_UW @ codebook_VW.T) for upper_UW in self.codebooks[:level]]
                for level, codebook_VW in enumerate(self.codebooks)
            ]

    def encode(self, latent_NW: np.ndarray) -> np.ndarray:
        """Codes int32 [N,L] of rows [N,W]."""
        latent_NW = np.ascontiguousarray(latent_NW, dtype=np.float32)
        codes_NL = np.empty((len(latent_NW), len(self.codebooks)), dtype=np.int32)
        for start, stop in row_chunks(len(latent_NW), self._elements_per_row(), min(self.budget, 4 * CHUNK_ELEMENTS)):
            codes_NL[start:stop] = self._encode_chunk(latent_NW[start:stop])
        return codes_NL

    def _elements_per_row(self) -> int:
        """Scratch per row, in values of four bytes, counted generously."""
        sizes, width = [len(codebook_VW) for codebook_VW in self.codebooks], self.codebooks[0].shape[1]
        if self.beam_width == 1:
            return (sum(sizes) + 2 * max(sizes)) if self.uses_tables else 3 * width
        return sum(sizes) + self.beam_width * (3 * max(sizes) + 3 * width)

    def _encode_chunk(self, latent_RW: np.ndarray) -> np.ndarray:
        if self.beam_width > 1:
            return self._encode_beams(latent_RW)
        return self._encode_by_tables(latent_RW) if self.uses_tables else self._encode_by_residuals(latent_RW)

    def _encode_by_residuals(self, latent_RW: np.ndarray) -> np.ndarray:
        codes_RL = np.empty((len(latent_RW), len(self.codebooks)), dtype=np.int32)
        residual_RW = latent_RW
        for level, codebook_VW in enumerate(self.codebooks):
            if level:
                residual_RW = residual_RW - self.codebooks[level - 1][codes_RL[:, level - 1]]
            codes_RL[:, level] = nearest_rows(residual_RW, codebook_VW)
        return codes_RL

    def _encode_by_tables(self, latent_RW: np.ndarray) -> np.ndarray:
        codes_RL = np.empty((len(latent_RW), len(self.codebooks)), dtype=np.int32)
        score_RS = self._scores.of(latent_RW)
        for level, tables in enumerate(self._doubled_products):
            score_RV = score_RS[:, self._bounds[level] : self._bounds[level + 1]]
            for above, table_UV in enumerate(tables):
                score_RV += table_UV[codes_RL[:, above]]
            codes_RL[:, level] = score_RV.argmin(1)
        return codes_RL

    def _encode_beams(self, latent_RW: np.ndarray) -> np.ndarray:
        """Keep the `beam_width` partial codes of least error per row; rows of the beams lie next to each other."""
        rows = len(latent_RW)
        codes_RBL = np.zeros((rows, 1, 0), dtype=np.int32)
        error_RB = np.zeros((rows, 1), dtype=np.float32)
        score_RS = self._scores.of(latent_RW) if self.uses_tables else None
        for level, codebook_VW in enumerate(self.codebooks):
            size, beams = len(codebook_VW), codes_RBL.shape[1]
            if score_RS is None:
                error_RBV = self._beam_scores(latent_RW, codes_RBL)
            else:
                error_RBV = np.repeat(score_RS[:, None, self._bounds[level] : self._bounds[level + 1]], beams, axis=1)
                for above, table_UV in enumerate(self._doubled_products[level]):
                    error_RBV += table_UV[codes_RBL[:, :, above]]
            error_RBV += error_RB[:, :, None]
            last = level == len(self.codebooks) - 1
            chosen_RB, error_RB = _smallest(error_RBV.reshape(rows, beams * size), 1 if last else self.beam_width)
            kept_RBL = np.take_along_axis(codes_RBL, chosen_RB[:, :, None] // size, axis=1)
            codes_RBL = np.concatenate([kept_RBL, (chosen_RB % size)[:, :, None].astype(np.int32)], axis=2)
        return codes_RBL[:, 0]

    def _beam_scores(self, latent_RW: np.ndarray, codes_RBL: np.ndarray) -> np.ndarray:
        """What adding each code of the next level does to the error of each beam, [R,B,V], from residuals."""
        rows, beams, level = codes_RBL.shape
        residual_RBW = np.repeat(latent_RW[:, None], beams, axis=1)
        for above in range(level):
            residual_RBW -= self.codebooks[above][codes_RBL[:, :, above]]
        flat_MV = Scores(self.codebooks[level]).of(residual_RBW.reshape(rows * beams, -1))
        return flat_MV.reshape(rows, beams, -1)


def _smallest(value_RM: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Columns and values of the `count` smallest of each row, in order; overwrites them in value_RM.

    A few passes of argmin beat a partial sort for the handful of beams that are ever kept.
    """
    count = min(count, value_RM.shape[1])
    column_RB = np.empty((len(value_RM), count), dtype=np.int64)
    least_RB = np.empty((len(value_RM), count), dtype=np.float32)
    every_R = np.arange(len(value_RM))
    for beam in range(count):
        column_RB[:, beam] = value_RM.argmin(1)
        least_RB[:, beam] = value_RM[every_R, column_RB[:, beam]]
        value_RM[every_R, column_RB[:, beam]] = np.inf
    return column_RB, least_RB
