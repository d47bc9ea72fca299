"""The base of quantizers with networks: training loop, encoding and decoding in chunks, saving and loading.

Such a quantizer scales the vectors, encodes them into a latent space, where the sum of one codebook row per level
approximates them, and decodes that sum. A subclass defines its networks and how it learns them and the codebooks.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable
from itertools import chain, pairwise
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from tokenizer.clustering.nearest import row_chunks
from tokenizer.common.checks import check_vectors
from tokenizer.quantizers import Quantizer, by_level
from tokenizer.quantizers.residual import MIB, ResidualEncoder, sum_of_rows
from tokenizer.quantizers.scaling import Scaling
from tokenizer.quantizers.spec import AutoencoderSpec

CLIP_NORM = 1.0
MOST_CHUNK_ROWS = 1 << 14  # larger chunks are no faster
ROWS_PER_CODE = 256  # rows per code, at most, of the random sample on which codebooks start and are checked


class Autoencoder(Quantizer):
    """Base of the quantizers with networks.

    hidden: widths of the encoder's hidden layers, mirrored in the decoder. steps: steps of Adam with cosine decay, each on
    batch_size rows. They are steps and not epochs, so that the time does not grow with the catalogue.
    """

    settings: AutoencoderSpec
    _encoder: nn.Module
    _decoder: nn.Module
    _codebooks: list[np.ndarray]

    @abstractmethod
    def _latent_width(self, width: int) -> int:
        """Columns of the latent space for vectors of `width` columns."""

    @abstractmethod
    def _networks(self, width: int) -> tuple[nn.Module, nn.Module]:
        """Untrained encoder and decoder for vectors of `width` columns."""

    def fit(self, x_ND: np.ndarray) -> Self:
        """Train on [N,D] vectors without changing torch's random state; TokenizerError for NaN, infinity or no rows."""
        x_ND = check_vectors(x_ND)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self._scaling = Scaling.of(x_ND)
            self._encoder, self._decoder = self._networks(x_ND.shape[1])
            self._learn(x_ND)
        self._freeze()
        return self

    @abstractmethod
    def _learn(self, x_ND: np.ndarray) -> None:
        """Train the new networks and set the codebooks; this may use torch's random state."""

    def encode(self, x_ND: np.ndarray) -> np.ndarray:
        """Codes int32 [N,L] of vectors [N,D]: on each level the codebook row nearest to the residual of the latent."""
        x_ND = self._checked(x_ND)
        encoder = ResidualEncoder(self._codebooks, memory_mib=max(1, self.memory_mib // 2))
        codes_NL = np.empty((len(x_ND), len(self.level_sizes)), dtype=np.int32)
        for rows in self._chunks(len(x_ND)):
            codes_NL[rows] = encoder.encode(self._encode_rows(x_ND[rows]))
        return codes_NL

    def decode(self, codes_NL: np.ndarray) -> np.ndarray:
        """Vectors float32 [N,D] that the decoder makes from the sums of codebook rows."""
        codes_NL = self._checked_codes(codes_NL)
        decoded_ND = np.empty((len(codes_NL), len(self._scaling.mean_D)), dtype=np.float32)
        for rows in self._chunks(len(codes_NL)):
            decoded_ND[rows] = self._decode_rows(codes_NL[rows])
        return decoded_ND

    def latent(self, x_ND: np.ndarray) -> np.ndarray:
        """The encoder's output, float32 [N,W]; codebook rows add up in this space."""
        x_ND = self._checked(x_ND)
        latent_NW = np.empty((len(x_ND), self._latent_width(x_ND.shape[1])), dtype=np.float32)
        for rows in self._chunks(len(x_ND)):
            latent_NW[rows] = self._encode_rows(x_ND[rows])
        return latent_NW

    @property
    def codebooks(self) -> list[np.ndarray]:
        """One float32 [V,W] array per level."""
        self._check_fitted()
        return self._codebooks

    def _chunks(self, rows: int) -> list[slice]:
        """Row ranges whose pass through the networks fits into half of memory_mib; the codes take the other half."""
        width = len(self._scaling.mean_D)
        floats = 4 * (width + self._latent_width(width)) + 2 * sum(self.settings.hidden)
        return row_chunks(rows, floats, min(MOST_CHUNK_ROWS * floats, self.memory_mib * MIB // 2))

    @torch.no_grad()
    def _encode_rows(self, x_RD: np.ndarray) -> np.ndarray:
        return np.asarray(self._encoder(torch.from_numpy(self._scaling.apply(x_RD))).numpy())

    @torch.no_grad()
    def _decode_rows(self, codes_RL: np.ndarray) -> np.ndarray:
        latent_RW = torch.from_numpy(sum_of_rows(codes_RL, self._codebooks))
        return self._scaling.undo(self._decoder(latent_RW).numpy())

    def _freeze(self) -> None:
        self._encoder.eval().requires_grad_(False)
        self._decoder.eval().requires_grad_(False)

    def _sample(self, rows: int) -> np.ndarray:
        """The rows on which codebooks start and are checked, sorted: all rows, or a random sample of a large catalogue."""
        most = ROWS_PER_CODE * max(self.level_sizes)
        if rows <= most:
            return np.arange(rows)
        return np.sort(np.random.default_rng(self.seed).choice(rows, most, replace=False))

    def _latent_of(self, x_ND: np.ndarray, sample_S: np.ndarray) -> Tensor:
        """Latents [S,W] of the rows in sample_S, from the current encoder."""
        latent_SW = np.empty((len(sample_S), self._latent_width(x_ND.shape[1])), dtype=np.float32)
        for rows in self._chunks(len(sample_S)):
            latent_SW[rows] = self._encode_rows(x_ND[sample_S[rows]])
        return torch.from_numpy(latent_SW)

    def state_dict(self) -> dict[str, np.ndarray]:
        """Mean, scale, both networks and the codebooks as named arrays."""
        self._check_fitted()
        state = self._scaling.arrays()
        for part, network in (("encoder", self._encoder), ("decoder", self._decoder)):
            state |= {f"{part}.{name}": array.numpy() for name, array in network.state_dict().items()}
        return state | by_level("codebook", self._codebooks)

    def _make_room(self, width: int) -> None:
        self._scaling = Scaling.blank(width)
        with torch.random.fork_rng(devices=[]):
            self._encoder, self._decoder = self._networks(width)
        latent_width = self._latent_width(width)
        self._codebooks = [np.zeros((size, latent_width), np.float32) for size in self.level_sizes]
        self._freeze()

    def _train(self, rows: int, loss_of: Callable[[int, np.ndarray], Tensor], *others: Iterable[nn.Parameter]) -> None:
        """Minimise `loss_of(step, rows_B)` over both networks and `others` by Adam, see the settings.

        rows: number of rows. rows_B: the row numbers of one step; a pass uses each row at most once, and rows that do not fill
        a batch are skipped until the next pass. The learning rate falls to zero, gradients are clipped to a norm of one, and a
        parameter without a gradient in a step does not change.
        """
        parameters = [*chain(self._encoder.parameters(), self._decoder.parameters(), *others)]
        optimizer = torch.optim.Adam(parameters, lr=self.settings.learning_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=self.settings.steps)
        batch = min(self.settings.batch_size, rows)
        order_N, used = torch.randperm(rows).numpy(), 0
        for step in range(self.settings.steps):
            if used + batch > rows:
                order_N, used = torch.randperm(rows).numpy(), 0
            loss = loss_of(step, order_N[used : used + batch])
            used += batch
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, CLIP_NORM)
            optimizer.step()
            schedule.step()


def perceptron(sizes: list[int]) -> nn.Sequential:
    """Linear layers of these widths with SiLU between them."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.SiLU()]
    return nn.Sequential(*layers[:-1])
