"""What the quantizers with networks share: one training loop, networks applied by parts, the verbs, saving and loading.

A quantizer of this family scales the vectors, has an encoder that maps them to a latent space where one codebook row per
level adds up to them, and a decoder back. Its own file says which networks those are and how they and the codebooks are
learnt; everything else is here.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from tokenizer.common.checks import check_arrays, check_codes, check_level_sizes, check_vectors
from tokenizer.errors import TokenizerError
from tokenizer.quantizers.residual import ResidualEncoder, sum_of_rows
from tokenizer.quantizers.scaling import Scaling

CLIP_NORM = 1.0
MOST_CHUNK_ROWS = 1 << 14  # more at once is no faster
ROWS_PER_CODE = 256  # codebooks start from, and are checked on, at most this many rows a code: a random sample


class Autoencoder(ABC):
    """Base of the quantizers with networks; `fit` trains, the other verbs read what was trained.

    hidden: widths of the encoder's hidden layers, mirrored in the decoder. steps: optimizer steps of Adam with cosine decay
    (steps, not epochs: the time does not grow with the catalogue), each on batch_size rows.
    """

    title: ClassVar[str]  # what error messages call the quantizer

    def __init__(
        self,
        level_sizes: list[int],
        *,
        hidden: list[int] | None,
        steps: int,
        batch_size: int,
        learning_rate: float,
        seed: int,
        memory_mib: int,
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
        """Train on [N,D] vectors, leaving torch's random state alone; TokenizerError for NaN, infinity or no rows."""
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
        """Train the fresh networks and set the codebooks; torch's random state may be used."""

    def encode(self, x_ND: np.ndarray) -> np.ndarray:
        """Codes int32 [N,L] of vectors [N,D]: level by level the codebook row nearest to what is left of the latent."""
        x_ND = self._checked(x_ND)
        encoder = ResidualEncoder(self._codebooks, memory_mib=max(1, self.memory_mib // 2))
        codes_NL = np.empty((len(x_ND), len(self.level_sizes)), dtype=np.int32)
        for rows in self._chunks(len(x_ND)):
            codes_NL[rows] = encoder.encode(self._encode_rows(x_ND[rows]))
        return codes_NL

    def encode_new(self, x_ND: np.ndarray) -> np.ndarray:
        """Codes int32 [N,L] of items that join later: `encode`, which looks at each row alone."""
        return self.encode(x_ND)

    def decode(self, codes_NL: np.ndarray) -> np.ndarray:
        """Vectors float32 [N,D] that the codes stand for: the decoder's reading of the sum of codebook rows."""
        self._check_fitted()
        codes_NL = check_codes(codes_NL, self.level_sizes)
        decoded_ND = np.empty((len(codes_NL), len(self._scaling.mean_D)), dtype=np.float32)
        for rows in self._chunks(len(codes_NL)):
            decoded_ND[rows] = self._decode_rows(codes_NL[rows])
        return decoded_ND

    def latent(self, x_ND: np.ndarray) -> np.ndarray:
        """The encoder's output float32 [N,W], where codebook rows add up."""
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
        """Row ranges so short that a pass through the networks stays within half of memory_mib; codes take the other half."""
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
        """The rows on which codebooks start and are checked, sorted: all, or a random sample of a large catalogue."""
        most = ROWS_PER_CODE * max(self.level_sizes)
        if rows <= most:
            return np.arange(rows)
        return np.sort(np.random.default_rng(self.seed).choice(rows, most, replace=False))

    def _latent_of(self, x_ND: np.ndarray, sample_S: np.ndarray) -> Tensor:
        """Latents [S,W] of the rows in sample_S, with the encoder as it is now."""
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
        """Restore from `config()` and `state_dict()`; TokenizerError when an array is missing or has a wrong shape."""
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
            blank[...] = arrays[name]  # the arrays of state_dict are views of what they describe
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

    rows: how many there are; rows_B are the numbers of those of one step, each row once before any row again (rows left
    over at the end of a pass wait for a later one). A parameter that a step's loss does not touch is left as it is.
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
