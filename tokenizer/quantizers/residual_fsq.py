"""Residual finite scalar quantization: codes are cells of fixed grids, without learnt codebooks (arXiv 2309.15505).

An encoder maps a vector to a few axes, each bounded to (-1, 1). A level divides its axes into equal cells, and the next level
divides those cells again, like the digits of a number in mixed radix. So the residual of one level has exactly the range of
the next. The reference is `vector_quantize_pytorch.ResidualFSQ`. Its cell centres reach from -1 to 1 and values outside are
clipped; the cells here tile the interval, so that an evenly spread latent uses every code equally often.
"""

import math

import numpy as np
import torch
from torch import Tensor, nn

from tokenizer.quantizers.autoencoder import Autoencoder, perceptron
from tokenizer.quantizers.spec import ResidualFSQSpec


class ResidualFSQ(Autoencoder):
    """Autoencoder whose latents are rounded to grids; `codebooks` list the cell centres, [V,W] on W axes.

    A level of size V is a grid of factors whose product is V, see `grid_factors`. values_per_axis: bound for products of prime
    factors; few values mean many axes, which reconstruct better. W is the largest number of factors of any level, or `axes` if
    that is more. A level divides the axes that are coarsest so far and is zero on the others. With as many axes as all
    levels have factors, each level has its own axes and none refines another, which lowers the error further.

    evenness: weight of a loss that spreads the latents over the cube, see `distance_from_even`. The grids do not adapt to the
    data, so this term is what makes codes used: without it, dependent axes leave codes of the first level empty.
    """

    title = "residual FSQ"

    settings_class = ResidualFSQSpec
    settings: ResidualFSQSpec

    def _grids(self) -> tuple[list[np.ndarray], np.ndarray]:
        return residual_grids(
            [grid_factors(size, self.settings.values_per_axis) for size in self.level_sizes], self.settings.axes or 1
        )

    def _latent_width(self, width: int) -> int:
        return len(self._grids()[1])

    def _networks(self, width: int) -> tuple[nn.Module, nn.Module]:
        axes = self._latent_width(width)
        return EvenEncoder([width, *self.settings.hidden, axes]), perceptron([axes, *self.settings.hidden[::-1], width])

    def _learn(self, x_ND: np.ndarray) -> None:
        self._codebooks, cells_W = self._grids()
        cells = torch.from_numpy(cells_W)

        def loss_of(step: int, rows_B: np.ndarray) -> Tensor:
            x_BD = torch.from_numpy(self._scaling.apply(x_ND[rows_B]))
            u_BW = self._encoder(x_BD)
            loss = nn.functional.mse_loss(self._decoder(to_cell_centres(u_BW, cells)), x_BD)
            return loss + self.settings.evenness * distance_from_even(u_BW)

        self._train(len(x_ND), loss_of)
        self._settle(x_ND, self._sample(len(x_ND)))

    @torch.no_grad()
    def _settle(self, x_ND: np.ndarray, sample_S: np.ndarray) -> None:
        """Replace the batch statistics of the encoder by statistics of the sample."""
        axes = self._latent_width(x_ND.shape[1])
        sums_W, squares_W = torch.zeros(2, axes, dtype=torch.float64)
        for rows in self._chunks(len(sample_S)):
            z_RW = self._encoder.get_submodule("network")(
                torch.from_numpy(self._scaling.apply(x_ND[sample_S[rows]]))
            ).double()
            sums_W += z_RW.sum(0)
            squares_W += z_RW.square().sum(0)
        mean_W = sums_W / len(sample_S)
        self._encoder.get_buffer("mean").copy_(mean_W)
        self._encoder.get_buffer("variance").copy_((squares_W / len(sample_S) - mean_W.square()).clamp(min=0))


class EvenEncoder(nn.Module):
    """A perceptron whose columns are standardised and mapped to (-1, 1) by the normal distribution function.

    A normally distributed column becomes evenly distributed.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, sizes: list[int]) -> None:
        super().__init__()
        self.network = perceptron(sizes)
        self.register_buffer("mean", torch.zeros(sizes[-1]))
        self.register_buffer("variance", torch.ones(sizes[-1]))

    def forward(self, x_BD: Tensor) -> Tensor:
        """Rows [B,W]; uses mean and variance of the batch in training, and the stored ones afterwards."""
        z_BW = self.network(x_BD)
        mean_W, variance_W = self.mean, self.variance
        if self.training:
            mean_W, variance_W = z_BW.mean(0), z_BW.var(0, correction=0)
        return torch.erf((z_BW - mean_W) / torch.sqrt(2 * variance_W + 1e-6))


def grid_factors(size: int, values_per_axis: int) -> list[int]:
    """Factors of a grid of exactly `size` cells, largest first.

    Each prime factor, the largest first, is multiplied into the first factor that stays within values_per_axis, or becomes a
    new factor. With 4 values, 256 gives 4,4,4,4 and 15 gives 5,3. A prime gives one axis with that many values, 1 no axis.
    """
    factors: list[int] = []
    for prime in reversed(_primes(size)):
        for index, factor in enumerate(factors):
            if factor * prime <= values_per_axis:
                factors[index] *= prime
                break
        else:
            factors.append(prime)
    return sorted(factors, reverse=True)


def _primes(number: int) -> list[int]:
    primes, divisor = [], 2
    while divisor <= math.isqrt(number):
        while number % divisor == 0:
            primes.append(divisor)
            number //= divisor
        divisor += 1
    return [*primes, number] if number > 1 else primes


def residual_grids(factors: list[list[int]], axes: int = 1) -> tuple[list[np.ndarray], np.ndarray]:
    """Cell centres of every level, float32 [V,W] each, and the number of cells of each axis after all levels, [W].

    On an axis with n cells of width 2/n so far, a factor f adds the offsets (2i + 1 - f) / (f n), i = 0..f-1, which divide each
    cell into f. Larger factors go to coarser axes, the first among equals.
    """
    width = max(axes, *(len(level) for level in factors))
    cells_W = np.ones(width)
    codebooks = []
    for level in factors:
        codes = np.arange(math.prod(level))
        codebook_VW = np.zeros((len(codes), width), dtype=np.float32)
        for axis, factor in zip(np.argsort(cells_W, kind="stable")[: len(level)], level, strict=True):
            codebook_VW[:, axis] = (2 * (codes % factor) + 1 - factor) / (factor * cells_W[axis])
            cells_W[axis] *= factor
            codes = codes // factor
        codebooks.append(codebook_VW)
    return codebooks, cells_W.astype(np.float32)


def distance_from_even(u_BW: Tensor) -> Tensor:
    """Energy distance between the rows and as many rows drawn uniformly from (-1, 1)^W; 0 only for evenly spread rows.

    It is 2 E|u - v| - E|u - u'| - E|v - v'| over pairs of different rows (Szekely and Rizzo 2013), divided by sqrt(W).
    """
    even_BW = torch.rand_like(u_BW) * 2 - 1
    pairs = max(1, len(u_BW) * (len(u_BW) - 1))
    between = torch.cdist(u_BW, even_BW).mean()
    within = (torch.cdist(u_BW, u_BW).sum() + torch.cdist(even_BW, even_BW).sum()) / pairs
    return (2 * between - within) / math.sqrt(u_BW.shape[1])


def to_cell_centres(u_BW: Tensor, cells_W: Tensor) -> Tensor:
    """Round each value of (-1, 1) to the centre of its cell; the gradient passes straight through."""
    index_BW = ((u_BW.detach() + 1) / 2 * cells_W).floor().clamp(min=0).minimum(cells_W - 1)
    return u_BW + ((2 * index_BW + 1) / cells_W - 1 - u_BW).detach()
