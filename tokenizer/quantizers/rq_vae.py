"""RQ-VAE: an autoencoder whose latents are quantized level by level (TIGER, arXiv 2305.05065, section 3.1).

Options are the gradient of the rounding, see `tokenizer.quantizers.rounding`, and the two regularisation terms of LETTER, see
`tokenizer.quantizers.letter`.
"""

from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from tokenizer.common.checks import check_vectors
from tokenizer.errors import TokenizerError
from tokenizer.quantizers.autoencoder import Autoencoder, perceptron
from tokenizer.quantizers.codebooks import revive_dead_codes, start_codebooks
from tokenizer.quantizers.letter import behaviour_loss
from tokenizer.quantizers.rounding import AveragedRounding, Gradient, GumbelRounding, Rounding
from tokenizer.quantizers.spec import RQVAESpec

WARM_UP_SHARE = 0.2  # share of steps that train the autoencoder alone, so that codebooks start in a settled space
COMMITMENT: dict[Gradient, float] = {"rotation": 0.25, "ste": 0.25, "gumbel": 0.01}
TEMPERATURE = 0.1  # for the cosines in LETTER's collaborative term


class RQVAE(Autoencoder):
    """Residual-quantized autoencoder; its latent space has `latent_dimensions` columns.

    Codebooks start from k-means on the encoded rows. In the end no code is unused, if rows differ enough.

    gradient: "rotation" and "ste" use moving averages as codebooks, "gumbel" learns them. commitment: weight of the loss that
    pulls the encoder towards its codes. None means 0.25, or 0.01 for "gumbel": its gradient to the encoder is weaker, and with
    a larger commitment later levels collapse. decay: of the moving averages, and of the loads that reveal dead codes.
    behaviour_weight (LETTER's alpha): above zero, `fit` needs behaviour vectors; the other methods never do.
    diversity_weight (LETTER's beta), diversity_clusters: of the term that pulls codes towards others of their cluster.
    """

    title = "RQ-VAE"

    settings_class = RQVAESpec
    settings: RQVAESpec
    _behaviour_NK: np.ndarray | None = None

    def fit(self, x_ND: np.ndarray, behaviour_ND: np.ndarray | None = None) -> Self:
        """Train on [N,D] vectors without changing torch's random state.

        behaviour_ND: one behaviour vector per row, of any width, zero without behaviour. It is used, scaled to length one, if
        behaviour_weight is above zero. Raises TokenizerError for NaN, infinity, no rows, or missing behaviour.
        """
        if self.settings.behaviour_weight > 0:
            self._behaviour_NK = _checked_behaviour(behaviour_ND, len(x_ND))
        try:
            return super().fit(x_ND)
        finally:
            self._behaviour_NK = None

    def _latent_width(self, width: int) -> int:
        return self.settings.latent_dimensions

    def _networks(self, width: int) -> tuple[nn.Module, nn.Module]:
        sizes = [width, *self.settings.hidden, self.settings.latent_dimensions]
        return perceptron(sizes), perceptron(sizes[::-1])

    def _rounding(self, batch: int) -> Rounding:
        options = self.settings
        settings: dict[str, Any] = {
            "batch": batch,
            "commitment": COMMITMENT[options.gradient] if options.commitment is None else options.commitment,
            **options.model_dump(include={"decay", "diversity_weight", "diversity_clusters"}),
        }
        if options.gradient == "gumbel":
            return GumbelRounding(self.level_sizes, options.latent_dimensions, **settings)
        rotation = options.gradient == "rotation"
        return AveragedRounding(self.level_sizes, options.latent_dimensions, rotation=rotation, **settings)

    def _learn(self, x_ND: np.ndarray) -> None:
        options = self.settings
        rounding, sample_S = self._rounding(min(options.batch_size, len(x_ND))), self._sample(len(x_ND))
        alignment = _Alignment(self._behaviour_NK, options.latent_dimensions, options.behaviour_weight)
        warm_up = int(options.steps * WARM_UP_SHARE)

        def loss_of(step: int, rows_B: np.ndarray) -> Tensor:
            x_BD = torch.from_numpy(self._scaling.apply(x_ND[rows_B]))
            if step == warm_up:
                rounding.start(*start_codebooks(self._latent_of(x_ND, sample_S), self.level_sizes, self.seed))
            latent_BW = self._encoder(x_BD)
            loss = torch.zeros(())
            if step >= warm_up:
                latent_BW, loss = rounding(latent_BW, (step - warm_up) / max(1, options.steps - 1 - warm_up))
            return loss + nn.functional.mse_loss(self._decoder(latent_BW), x_BD) + alignment.loss(latent_BW, rows_B)

        self._train(len(x_ND), loss_of, rounding.parameters(), alignment.parameters())
        latent_SW = self._latent_of(x_ND, sample_S)
        codebooks = rounding.codebooks()
        self._codebooks = [codebook.numpy() for codebook in revive_dead_codes(latent_SW, codebooks, self.seed)]


class _Alignment:
    """LETTER's collaborative term on vectors of length one, so that the scale of neither side matters.

    Inner products need equal widths, so a linear map takes the quantised latents to the width of the behaviour vectors. It is
    dropped after fitting.
    """

    def __init__(self, behaviour_NK: np.ndarray | None, width: int, weight: float) -> None:
        self._behaviour_NK = behaviour_NK
        self._weight = weight
        self._map = None if behaviour_NK is None else nn.Linear(width, behaviour_NK.shape[1], bias=False)

    def parameters(self) -> list[nn.Parameter]:
        return [] if self._map is None else list(self._map.parameters())

    def loss(self, quantised_BW: Tensor, rows_B: np.ndarray) -> Tensor:
        if self._map is None or self._behaviour_NK is None:
            return torch.zeros(())
        behaviour_BK = torch.from_numpy(self._behaviour_NK[rows_B])
        mapped_BK = nn.functional.normalize(self._map(quantised_BW), dim=1)
        behaviour_BK = nn.functional.normalize(behaviour_BK, dim=1)
        return self._weight * behaviour_loss(mapped_BK, behaviour_BK, TEMPERATURE)


def _checked_behaviour(behaviour_NK: np.ndarray | None, rows: int) -> np.ndarray:
    if behaviour_NK is None:
        raise TokenizerError(
            "RQ-VAE with behaviour_weight above zero needs behaviour vectors in fit; pass one per item."
        )
    behaviour_NK = check_vectors(behaviour_NK, "behaviour vectors")
    if len(behaviour_NK) != rows:
        raise TokenizerError(
            f"behaviour vectors: {len(behaviour_NK)} rows for {rows} item vectors; give one row per item."
        )
    return behaviour_NK
