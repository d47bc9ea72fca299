"""RQ-KMeans: k-means on the vectors, then on the residuals, level by level (OneRec Technical Report, section 1.1)."""

from typing import Self

import numpy as np

from tokenizer.clustering.kmeans import lloyd
from tokenizer.common.checks import check_vectors
from tokenizer.quantizers.residual import ResidualEncoder
from tokenizer.quantizers.residual_kmeans import ResidualKMeans, sample_rows, scaled_parts, subtract_rows
from tokenizer.quantizers.scaling import Scaling
from tokenizer.quantizers.spec import RQKMeansSpec


class RQKMeans(ResidualKMeans):
    """Residual quantizer with one k-means codebook per level.

    With R^1 = x: C^l = k-means(R^l), code^l = index of the nearest row of C^l, R^(l+1) = R^l - C^l[code^l]
    (arXiv 2506.13695, section 1.1). Vectors are first shifted by their mean and divided by their root mean square (one number
    for all columns), so that float32 distances stay exact for data far from the origin. `decode` undoes this.

    iterations: of k-means per level, at most. initialisation: initial centroids, see
    `tokenizer.clustering.kmeans.start_centroids`. restarts: fits per level, of which the best is kept. fit_rows: size of a
    random sample to fit on (None: all rows). beam_width: partial codes kept per item in encoding; 1 takes the nearest code on
    each level, as in the paper.
    """

    title = "RQ-KMeans"
    settings_class = RQKMeansSpec
    settings: RQKMeansSpec

    def fit(self, x_ND: np.ndarray) -> Self:
        """Learn mean, scale and codebooks from [N,D] vectors; TokenizerError for NaN, infinity or an empty array."""
        settings = self.settings.model_dump(include={"iterations", "initialisation", "restarts"})
        x_ND = sample_rows(check_vectors(x_ND), self.settings.fit_rows, self.seed)
        self._scaling = Scaling.of(x_ND)
        residual_ND = self._scaling.apply(x_ND)
        self._codebooks = []
        for level, size in enumerate(self.level_sizes):
            found = lloyd(residual_ND, size, seed=self.seed + level, **settings)
            subtract_rows(residual_ND, found.centroids_KD, found.assignment_N)
            self._codebooks.append(found.centroids_KD)
        return self

    def encode(self, x_ND: np.ndarray) -> np.ndarray:
        """Codes int32 [N,L] of vectors [N,D]: on each level the nearest codebook row, or by beams if beam_width is above 1."""
        x_ND = self._checked(x_ND)
        memory_mib = max(1, self.memory_mib // 2)
        encoder = ResidualEncoder(self._codebooks, beam_width=self.settings.beam_width, memory_mib=memory_mib)
        codes_NL = np.empty((len(x_ND), len(self.level_sizes)), dtype=np.int32)
        for part, scaled_RD in scaled_parts(x_ND, self._scaling, self.memory_mib):
            codes_NL[part] = encoder.encode(scaled_RD)
        return codes_NL
