"""RQ-KMeans+: an autoencoder that starts as RQ-KMeans, so that its result is never worse.

Name and idea are from MiniOneRec (arXiv 2510.24431 and its code): the latent is x plus the output of an encoder whose last
layer starts at zero, and the codebooks are those of RQ-KMeans. Here the decoder is residual in the same way. So before the
first step, codes and reconstruction are exactly those of RQ-KMeans.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from tokenizer.quantizers.autoencoder import Autoencoder, perceptron
from tokenizer.quantizers.codebooks import revive_dead_codes
from tokenizer.quantizers.residual import ResidualEncoder
from tokenizer.quantizers.rounding import GumbelRounding
from tokenizer.quantizers.rq_kmeans import RQKMeans
from tokenizer.quantizers.scaling import Scaling
from tokenizer.quantizers.spec import RQKMeansPlusSpec

WARMEST = 0.02  # choices are almost hard from the start, because the initial codes are good


class RQKMeansPlus(Autoencoder):
    """Residual quantizer warm-started from RQ-KMeans; the latent space has the width of the vectors.

    Networks and codebooks learn by gradient through Gumbel mixtures, see `tokenizer.quantizers.rounding`. Straight-through
    gradients or the rotation trick, with moving averages as codebooks, push latents away from their codes: on Amazon Beauty,
    both ended with a larger error than RQ-KMeans. commitment: weight of the loss that pulls the encoder towards its codes.

    After training, the better of start and end is kept, by the reconstruction error on the rows that RQ-KMeans was fitted on:
    all rows, or a random sample of a large catalogue.
    """

    title = "RQ-KMeans+"

    settings_class = RQKMeansPlusSpec
    settings: RQKMeansPlusSpec

    def _latent_width(self, width: int) -> int:
        return width

    def _networks(self, width: int) -> tuple[nn.Module, nn.Module]:
        return Residual([width, *self.settings.hidden, width]), Residual([width, *self.settings.hidden[::-1], width])

    def _learn(self, x_ND: np.ndarray) -> None:
        sample_S = self._sample(len(x_ND))
        start = RQKMeans(self.level_sizes, seed=self.seed, memory_mib=self.memory_mib).fit(
            x_ND if len(sample_S) == len(x_ND) else x_ND[sample_S]
        )
        state = start.state_dict()
        self._scaling = Scaling(state["mean"], state["scale"])
        self._codebooks = start.codebooks
        if self.settings.steps == 0:  # training rescales the codebooks, which would round them
            return
        started = self._error(x_ND, sample_S)
        self._improve(x_ND, sample_S)
        if self._error(x_ND, sample_S) > started:
            self._encoder, self._decoder = self._networks(x_ND.shape[1])
            self._codebooks = start.codebooks

    def _improve(self, x_ND: np.ndarray, sample_S: np.ndarray) -> None:
        rounding = GumbelRounding(
            self.level_sizes,
            x_ND.shape[1],
            batch=min(self.settings.batch_size, len(x_ND)),
            commitment=self.settings.commitment,
            warmest=WARMEST,
            dead_share=0.0,  # k-means gives outliers codes of their own, which lowers the error: they must stay
        )
        codes_SL = np.concatenate([codes_RL for _, codes_RL in self._codes_by_parts(x_ND, sample_S)])
        rounding.start([torch.from_numpy(codebook) for codebook in self._codebooks], torch.from_numpy(codes_SL))

        def loss_of(step: int, rows_B: np.ndarray) -> Tensor:
            x_BD = torch.from_numpy(self._scaling.apply(x_ND[rows_B]))
            quantised_BD, loss = rounding(self._encoder(x_BD), step / max(1, self.settings.steps - 1))
            return loss + nn.functional.mse_loss(self._decoder(quantised_BD), x_BD)

        self._train(len(x_ND), loss_of, rounding.parameters())
        revived = revive_dead_codes(self._latent_of(x_ND, sample_S), rounding.codebooks(), self.seed)
        self._codebooks = [codebook_VD.numpy() for codebook_VD in revived]

    def _codes_by_parts(self, x_ND: np.ndarray, sample_S: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield parts [R,D] of the sample's rows and their codes [R,L]."""
        encoder = ResidualEncoder(self._codebooks, memory_mib=max(1, self.memory_mib // 2))
        for rows in self._chunks(len(sample_S)):
            x_RD = x_ND[sample_S[rows]]
            yield x_RD, encoder.encode(self._encode_rows(x_RD))

    def _error(self, x_ND: np.ndarray, sample_S: np.ndarray) -> float:
        """Sum of the squared reconstruction errors of the sample."""
        total = 0.0
        for x_RD, codes_RL in self._codes_by_parts(x_ND, sample_S):
            total += float(np.square(x_RD - self._decode_rows(codes_RL), dtype=np.float64).sum())
        return total


class Residual(nn.Module):
    """x plus a perceptron of x whose last layer starts at zero: the identity until it is trained."""

    def __init__(self, sizes: list[int]) -> None:
        super().__init__()
        self.added = perceptron(sizes)
        for parameter in self.added[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, x_BD: Tensor) -> Tensor:
        """Rows [B,D] -> [B,D]."""
        return x_BD + self.added(x_BD)
