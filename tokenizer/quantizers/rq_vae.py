"""RQ-VAE: an autoencoder whose middle is quantized level by level (TIGER, arXiv 2305.05065, section 3.1).

The residual codebooks come from `vector_quantize_pytorch.ResidualVQ`: updated by exponential moving averages, with the
rotation trick (arXiv 2410.06424) carrying gradients past the rounding.
"""

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from tokenizer.checks import check_codes, check_level_sizes, check_vectors
from tokenizer.errors import TokenizerError
from tokenizer.kmeans import kmeans, nearest_centroids

if TYPE_CHECKING:
    from vector_quantize_pytorch import ResidualVQ

CHUNK_ROWS = 1 << 14
WARM_UP_SHARE = 0.2  # of the steps train the bare autoencoder, so that the codebooks start in a space that has settled
DEAD_SHARE = 0.1  # a code with less than this share of the average load of its level is given a new place
INITIAL_ROUNDS = 10  # of k-means for the codebooks to start from


class RQVAE:
    """Residual-quantized autoencoder; the middle has `latent_dimensions` columns, where codebook rows add up.

    level_sizes: codes per level, may differ. hidden: widths of the encoder's hidden layers, mirrored in the decoder.
    steps: optimizer steps of Adam with cosine decay (steps, not epochs: the time does not grow with the catalogue).
    commitment: weight of the pull of the encoder towards its codes. decay: of the codebooks' moving averages.
    """

    def __init__(
        self,
        level_sizes: list[int],
        *,
        hidden: list[int] | None = None,
        latent_dimensions: int = 64,
        steps: int = 1000,
        batch_size: int = 512,
        learning_rate: float = 3e-3,
        commitment: float = 0.25,
        decay: float = 0.99,
        seed: int = 0,
        memory_mib: int = 256,
    ) -> None:
        self.level_sizes = check_level_sizes(level_sizes)
        self.hidden = [256] if hidden is None else list(hidden)
        self.latent_dimensions = latent_dimensions
        self.steps = steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.commitment = commitment
        self.decay = decay
        self.seed = seed
        self.memory_mib = memory_mib
        self._mean_D = self._scale = np.zeros(0, dtype=np.float32)
        self._encoder = self._decoder = nn.Sequential()
        self._codebooks: list[np.ndarray] = []

    def fit(self, x_ND: np.ndarray) -> Self:
        """Train on [N,D] vectors, leaving torch's random state alone; TokenizerError for NaN, infinity or no rows."""
        x_ND = check_vectors(x_ND)
        self._mean_D = x_ND.mean(axis=0, dtype=np.float64).astype(np.float32)
        scale = float(np.sqrt(np.square(x_ND - self._mean_D).mean(dtype=np.float64)))
        self._scale = np.asarray([scale if scale > 0 else 1.0], dtype=np.float32)
        scaled_ND = torch.from_numpy((x_ND - self._mean_D) / self._scale)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self._encoder, self._decoder = self._networks(x_ND.shape[1])
            self._train(scaled_ND)
        return self

    def _networks(self, width: int) -> tuple[nn.Sequential, nn.Sequential]:
        sizes = [width, *self.hidden, self.latent_dimensions]
        return _perceptron(sizes), _perceptron(sizes[::-1])

    def _train(self, scaled_ND: Tensor) -> None:
        parameters = [*self._encoder.parameters(), *self._decoder.parameters()]
        optimizer = torch.optim.Adam(parameters, lr=self.learning_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=max(1, self.steps))
        warm_up = int(self.steps * WARM_UP_SHARE)
        quantizer: ResidualVQ | None = None
        batch = min(self.batch_size, len(scaled_ND))
        order_N, used = torch.randperm(len(scaled_ND)), 0
        for step in range(self.steps):
            if step == warm_up:
                quantizer = self._start_quantizer(scaled_ND, batch)
            if used + batch > len(scaled_ND):
                order_N, used = torch.randperm(len(scaled_ND)), 0
            x_BD = scaled_ND[order_N[used : used + batch]]
            used += batch
            latent_BW = self._encoder(x_BD)
            loss = torch.zeros(())
            if quantizer is not None:
                latent_BW, _, commitment_L = quantizer(latent_BW.unsqueeze(0))
                latent_BW, loss = latent_BW.squeeze(0), commitment_L.sum()
            loss = loss + nn.functional.mse_loss(self._decoder(latent_BW), x_BD)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            schedule.step()
        quantizer = quantizer or self._start_quantizer(scaled_ND, batch)
        self._codebooks = [layer.codebook.detach().cpu().numpy().copy() for layer in quantizer.layers]
        self._encoder.eval().requires_grad_(False)
        self._decoder.eval().requires_grad_(False)

    def _start_quantizer(self, scaled_ND: Tensor, batch: int) -> "ResidualVQ":
        """A ResidualVQ whose codebooks are k-means centroids of ALL encoded rows (its own start sees one batch)."""
        from vector_quantize_pytorch import ResidualVQ

        quantizer = ResidualVQ(
            dim=self.latent_dimensions,
            codebook_size=tuple(self.level_sizes),
            decay=self.decay,
            commitment_weight=self.commitment,
            rotation_trick=True,
            threshold_ema_dead_code=DEAD_SHARE * batch / max(self.level_sizes),
        )
        state = quantizer.state_dict()
        residual_NW = _in_chunks(self._encoder, scaled_ND)
        for level, size in enumerate(self.level_sizes):
            result = kmeans(residual_NW, size, iterations=INITIAL_ROUNDS, seed=self.seed + level)
            residual_NW = residual_NW - result.centroids_KD[result.assignment_N]
            # the averages count rows per batch; an unused code starts with a little load, for a division to be possible
            load_K = torch.bincount(result.assignment_N, minlength=size) * (batch / len(scaled_ND))
            load_K = load_K.clamp(min=1e-3).to(torch.float32)
            codebook = f"layers.{level}._codebook."
            state[codebook + "embed"] = result.centroids_KD.unsqueeze(0)
            state[codebook + "embed_avg"] = (result.centroids_KD * load_K.unsqueeze(1)).unsqueeze(0)
            state[codebook + "cluster_size"] = load_K.unsqueeze(0)
        quantizer.load_state_dict(state)
        return quantizer.train()

    def encode(self, x_ND: np.ndarray) -> np.ndarray:
        """Codes int32 [N,L] of vectors [N,D]."""
        residual_NW = torch.from_numpy(self.latent(x_ND))
        levels = []
        for codebook in self._codebooks:
            codebook_VW = torch.from_numpy(codebook)
            codes_N, _ = nearest_centroids(residual_NW, codebook_VW)
            residual_NW = residual_NW - codebook_VW[codes_N]
            levels.append(codes_N.numpy().astype(np.int32))
        return np.stack(levels, axis=1)

    def decode(self, codes_NL: np.ndarray) -> np.ndarray:
        """Vectors float32 [N,D] that the codes stand for: the decoder's reading of the sum of codebook rows."""
        self._check_fitted()
        codes_NL = check_codes(codes_NL, self.level_sizes)
        latent_NW = np.zeros((len(codes_NL), self.latent_dimensions), dtype=np.float32)
        for level, codebook_VW in enumerate(self._codebooks):
            latent_NW += codebook_VW[codes_NL[:, level]]
        decoded_ND = _in_chunks(self._decoder, torch.from_numpy(latent_NW)).numpy()
        return np.asarray(decoded_ND * self._scale + self._mean_D, dtype=np.float32)

    def latent(self, x_ND: np.ndarray) -> np.ndarray:
        """The encoder's output float32 [N,W], where codebook rows add up."""
        self._check_fitted()
        scaled_ND = (check_vectors(x_ND, width=len(self._mean_D)) - self._mean_D) / self._scale
        return np.asarray(_in_chunks(self._encoder, torch.from_numpy(scaled_ND)).numpy())

    @property
    def codebooks(self) -> list[np.ndarray]:
        """One float32 [V,W] array per level."""
        self._check_fitted()
        return self._codebooks

    def _check_fitted(self) -> None:
        if not self._codebooks:
            raise TokenizerError("this RQ-VAE has not been fitted; call fit first, or load a saved artefact.")

    def config(self) -> dict[str, Any]:
        """Settings as plain JSON values."""
        return {
            "level_sizes": self.level_sizes,
            "hidden": self.hidden,
            "latent_dimensions": self.latent_dimensions,
            "steps": self.steps,
            "batch_size": self.batch_size,
            "learning_rate": self.learning_rate,
            "commitment": self.commitment,
            "decay": self.decay,
            "seed": self.seed,
            "memory_mib": self.memory_mib,
        }

    def state_dict(self) -> dict[str, np.ndarray]:
        """Mean, scale, both networks and the codebooks as named arrays."""
        state = {"mean": self._mean_D, "scale": self._scale}
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
        quantizer._mean_D, quantizer._scale = np.zeros(width, np.float32), np.zeros(1, np.float32)
        quantizer._codebooks = [
            np.zeros((size, quantizer.latent_dimensions), np.float32) for size in quantizer.level_sizes
        ]
        for name, blank in quantizer.state_dict().items():
            if name not in state or state[name].shape != blank.shape:
                found = state[name].shape if name in state else "nothing"
                raise TokenizerError(f"RQ-VAE: array {name!r} should have shape {blank.shape}, found {found}.")
            blank[...] = state[name]  # the arrays of state_dict are views of what they describe
        quantizer._encoder.eval().requires_grad_(False)
        quantizer._decoder.eval().requires_grad_(False)
        return quantizer


def _perceptron(sizes: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.SiLU()]
    return nn.Sequential(*layers[:-1])


def _in_chunks(network: nn.Sequential, x_ND: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.cat([network(rows) for rows in x_ND.split(CHUNK_ROWS)])
