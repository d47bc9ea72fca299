"""The base of quantizers with networks: training loop, encoding and decoding in chunks, saving and loading.

Such a quantizer scales the vectors, encodes them into a latent space, where the sum of one codebook row per level
approximates them, and decodes that sum. A subclass defines its networks and how it learns them and the codebooks.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import Any, ClassVar, Self, TypedDict

import numpy as np
import torch
from torch import Tensor, nn

from tokenizer.common.checks import check_arrays, check_codes, check_level_sizes, check_vectors
from tokenizer.errors import TokenizerError
from tokenizer.quantizers.residual import ResidualEncoder, sum_of_rows
from tokenizer.quantizers.scaling import Scaling

CLIP_NORM = 1.0
MOST_CHUNK_ROWS = 1 << 14  # larger chunks are no faster
ROWS_PER_CODE = 256  # rows per code, at most, of the random sample on which codebooks start and are checked


class TrainingSettings(TypedDict, total=False):
    """Settings that all quantizers with networks share; see `Autoencoder`."""

    hidden: list[int] | None
    steps: int
    batch_size: int
    learning_rate: float
    seed: int
    memory_mib: int


class Autoencoder(ABC):
    """Base of the quantizers with networks.

    hidden: widths of the encoder's hidden layers, mirrored in the decoder. steps: steps of Adam with cosine decay, each on
    batch_size rows. They are steps and not epochs, so that the time does not grow with the catalogue. memory_mib: bound of the
    scratch memory.
    """

    title: ClassVar[str]  # the quantizer's name in error messages

    def __init__(
        self,
        level_sizes: list[int],
        *,
        hidden: list[int] | None = None,
        steps: int = 1000,
        batch_size: int = 512,
        learning_rate: float = 3e-3,
        seed: int = 0,
        memory_mib: int = 256,
    ) -> None:
        self.level_sizes = check_level_sizes(level_sizes)
        self.hidden = [256] if hidden is None else list(hidden)
        self.steps = steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.seed = seed
        self.memory_mib = memory_mib
        self._scaling = Scaling(np.zeros(0, dtype=np.float32), np.ones(1, dtype=np.float32))
        self._encoder: nn.Module = nn.Identity()
        self._decoder: nn.Module = nn.Identity()
        self._codebooks: list[np.ndarray] = []

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

    def encode_new(self, x_ND: np.ndarray) -> np.ndarray:
        """Codes int32 [N,L] of items that join later: the same as `encode`, which encodes each row independently."""
        return self.encode(x_ND)

    def decode(self, codes_NL: np.ndarray) -> np.ndarray:
        """Vectors float32 [N,D] that the decoder makes from the sums of codebook rows."""
        self._check_fitted()
        codes_NL = check_codes(codes_NL, self.level_sizes)
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

    def _checked(self, x_ND: np.ndarray) -> np.ndarray:
        self._check_fitted()
        return check_vectors(x_ND, width=len(self._scaling.mean_D))

    def _check_fitted(self) -> None:
        if not self._codebooks:
            raise TokenizerError(f"this {self.title} has not been fitted; call fit first, or load a saved artefact.")

    def _chunks(self, rows: int) -> Iterator[slice]:
        """Row ranges whose pass through the networks fits into half of memory_mib; the codes take the other half."""
        width = len(self._scaling.mean_D)
        floats = 4 * (width + self._latent_width(width)) + 2 * sum(self.hidden)
        chunk = max(1, min(MOST_CHUNK_ROWS, self.memory_mib * 2**20 // 2 // (4 * floats)))
        return (slice(start, min(start + chunk, rows)) for start in range(0, rows, chunk))

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

    def config(self) -> dict[str, Any]:
        """Settings as plain JSON values."""
        return {
            "level_sizes": self.level_sizes,
            "hidden": self.hidden,
            "steps": self.steps,
            "batch_size": self.batch_size,
            "learning_rate": self.learning_rate,
            "seed": self.seed,
            "memory_mib": self.memory_mib,
        }

    def state_dict(self) -> dict[str, np.ndarray]:
        """Mean, scale, both networks and the codebooks as named arrays."""
        state = {"mean": self._scaling.mean_D, "scale": self._scaling.scale}
        for part, network in (("encoder", self._encoder), ("decoder", self._decoder)):
            state |= {f"{part}.{name}": array.numpy() for name, array in network.state_dict().items()}
        return state | {f"codebook_{level + 1}": codebook for level, codebook in enumerate(self._codebooks)}

    @classmethod
    def load(cls, config: dict[str, Any], state: dict[str, np.ndarray]) -> Self:
        """Restore from `config()` and `state_dict()`; TokenizerError names an array that is missing or has a wrong shape."""
        quantizer = cls(**config)
        width = state["mean"].shape[-1] if "mean" in state else 1
        with torch.random.fork_rng(devices=[]):
            quantizer._encoder, quantizer._decoder = quantizer._networks(width)
        quantizer._scaling = Scaling(np.zeros(width, dtype=np.float32), np.zeros(1, dtype=np.float32))
        latent_width = quantizer._latent_width(width)
        quantizer._codebooks = [np.zeros((size, latent_width), np.float32) for size in quantizer.level_sizes]
        blanks = quantizer.state_dict()
        arrays = check_arrays(cls.title, state, {name: blank.shape for name, blank in blanks.items()})
        for name, blank in blanks.items():
            blank[...] = arrays[name]  # these arrays are views of the quantizer's own arrays
        quantizer._freeze()
        return quantizer


def train(
    rows: int,
    loss_of: Callable[[int, np.ndarray], Tensor],
    parameters: Iterable[nn.Parameter],
    *,
    steps: int,
    batch_size: int,
    learning_rate: float,
) -> None:
    """Minimise `loss_of(step, rows_B)` by Adam with cosine decay to zero and gradients clipped to a norm of one.

    rows: number of rows. rows_B: the row numbers of one step; a pass uses each row at most once, and rows that do not fill a
    batch are skipped until the next pass. A parameter without a gradient in a step does not change.
    """
    parameters = list(parameters)
    optimizer = torch.optim.Adam(parameters, lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=max(1, steps))
    batch = min(batch_size, rows)
    order_N, used = torch.randperm(rows).numpy(), 0
    for step in range(steps):
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
