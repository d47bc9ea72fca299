"""Residual encoding: on each level the codebook row nearest to the residual of the levels before, or a beam of such codes.

The squared error of a row x after levels 1..l is, up to the constant |x|^2,

    sum over levels m of |c_m|^2 - 2 x.c_m  +  2 sum over pairs m < n of c_m.c_n

so every score follows from one matrix product of the rows with all codebooks and from a table of inner products between
codebook rows, without computing residuals. If codebooks have many more rows than columns, reading the table costs more than
it saves; then residuals are computed, a chunk of rows at a time.
"""

import numpy as np

from tokenizer.clustering.nearest import CHUNK_ELEMENTS, Scores, nearest_rows, row_chunks

MIB = 1 << 18  # float32 values in one MiB
TABLE_ROWS_PER_COLUMN = 2  # the table is used up to this many codebook rows in total per column


def sum_of_rows(codes_NL: np.ndarray, codebooks: list[np.ndarray]) -> np.ndarray:
    """The sum over levels of the codebook rows of these codes, float32 [N,W]."""
    total_NW = codebooks[0][codes_NL[:, 0]].astype(np.float32)
    for level, codebook_VW in enumerate(codebooks[1:], start=1):
        total_NW += codebook_VW[codes_NL[:, level]]
    return np.asarray(total_NW)


class ResidualEncoder:
    """Finds the codes of rows; the tables of the codebooks [V,W] are computed once.

    beam_width: partial codes kept per row and level. 1 takes the nearest code on each level; more lowers the error, and then
    the first codes are not always the nearest. memory_mib: bound of the scratch memory.
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
        for rows in row_chunks(len(latent_NW), self._elements_per_row(), min(self.budget, 4 * CHUNK_ELEMENTS)):
            codes_NL[rows] = self._encode_chunk(latent_NW[rows])
        return codes_NL

    def _elements_per_row(self) -> int:
        """Upper bound of the scratch memory per row, in float32 values."""
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
        """Keep the `beam_width` partial codes with the least error per row and return the best complete codes."""
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
        """Change of the error of each beam by each code of the next level, [R,B,V], from residuals."""
        rows, beams, level = codes_RBL.shape
        residual_RBW = np.repeat(latent_RW[:, None], beams, axis=1)
        for above in range(level):
            residual_RBW -= self.codebooks[above][codes_RBL[:, :, above]]
        flat_MV = Scores(self.codebooks[level]).of(residual_RBW.reshape(rows * beams, -1))
        return flat_MV.reshape(rows, beams, -1)


def _smallest(value_RM: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Columns and values of the `count` smallest of each row, in order; value_RM is overwritten.

    For a few beams, repeated argmin is faster than a partial sort.
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
