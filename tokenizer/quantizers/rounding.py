"""Rounding of latents to sums of codebook rows, with a gradient, while an autoencoder trains.

`AveragedRounding` keeps codebooks as moving averages of their latents (`vector_quantize_pytorch.ResidualVQ`). The gradient
passes the rounding unchanged (straight through) or rotated with the vector (rotation trick, arXiv 2410.06424).
`GumbelRounding` learns codebooks by gradient, through noisy mixtures that become hard choices (arXiv 1611.01144).
"""

from abc import ABC, abstractmethod
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tokenizer.quantizers.letter import CodeDiversity

Gradient = Literal["rotation", "ste", "gumbel"]

DEAD_SHARE = 0.1  # a code with less than this share of its level's average load is moved
WARMEST, COLDEST = 0.1, 0.005  # temperature of Gumbel choices in the first and the last step


class Rounding(ABC):
    """The quantization between an encoder and a decoder in training.

    batch: rows per step. commitment: weight of the loss that pulls latents to their codes. decay: of the moving averages.
    diversity_weight, diversity_clusters: of LETTER's diversity loss.
    """

    def __init__(
        self,
        level_sizes: list[int],
        *,
        batch: int,
        commitment: float,
        decay: float = 0.99,
        diversity_weight: float = 0.0,
        diversity_clusters: int = 10,
    ) -> None:
        self._batch, self._commitment, self._decay = batch, commitment, decay
        self._diversity_weight = diversity_weight
        self._diversity = [CodeDiversity(diversity_clusters) for _ in level_sizes]

    @abstractmethod
    def parameters(self) -> list[nn.Parameter]:
        """Parameters for the optimizer, from the first step on."""

    @abstractmethod
    def start(self, codebooks: list[Tensor], codes_SL: Tensor) -> None:
        """Set the codebooks, and the load of each code; codes_SL: codes of a sample of the rows."""

    @abstractmethod
    def __call__(self, latent_BW: Tensor, progress: float) -> tuple[Tensor, Tensor]:
        """Latents rounded to sums of codebook rows, and a loss to add; progress runs from 0 to 1."""

    @abstractmethod
    def codebooks(self) -> list[Tensor]:
        """One [V,W] tensor per level, detached."""


class AveragedRounding(Rounding):
    """Codebooks as moving averages; dead codes move onto rows of the batch.

    rotation: use the rotation trick and not straight-through gradients. A moving average is a gradient step of size (1 - decay)
    on the mean squared distance of each code to its rows. The diversity loss takes the same step. Its weight is relative to
    that distance averaged over the W columns, as in LETTER, and its step moves no code by more than (1 - decay) of the mean
    length of the initial codes.
    """

    def __init__(self, level_sizes: list[int], width: int, *, rotation: bool, **settings: Any) -> None:
        from vector_quantize_pytorch import ResidualVQ

        super().__init__(level_sizes, **settings)
        self._reach = [0.0 for _ in level_sizes]
        self._quantizer = ResidualVQ(
            dim=width,
            codebook_size=tuple(level_sizes),
            decay=self._decay,
            commitment_weight=self._commitment,
            rotation_trick=rotation,
            threshold_ema_dead_code=DEAD_SHARE * self._batch / max(level_sizes),
            sync_codebook=False,  # only one of several processes fits, and it must not wait for the others
        ).train()

    def parameters(self) -> list[nn.Parameter]:
        """None, because averages are not optimized."""
        return []

    def start(self, codebooks: list[Tensor], codes_SL: Tensor) -> None:
        """Set the codebooks, and the weight of each average to the code's load in the sample."""
        state = self._quantizer.state_dict()
        for level, codebook_VW in enumerate(codebooks):
            # loads are rows per batch; an unused code gets a small load to avoid division by zero
            load_V = torch.bincount(codes_SL[:, level], minlength=len(codebook_VW)) * (self._batch / len(codes_SL))
            load_V = load_V.clamp(min=1e-3).to(torch.float32)
            self._reach[level] = float(codebook_VW.square().sum(1).mean().sqrt())
            name = f"layers.{level}._codebook."
            state[name + "embed"] = codebook_VW.unsqueeze(0)
            state[name + "embed_avg"] = (codebook_VW * load_V.unsqueeze(1)).unsqueeze(0)
            state[name + "cluster_size"] = load_V.unsqueeze(0)
        self._quantizer.load_state_dict(state)

    def __call__(self, latent_BW: Tensor, progress: float) -> tuple[Tensor, Tensor]:
        """Rounded latents and the commitment loss; the averages are updated."""
        quantised_BW, codes_BL, commitment_L = self._quantizer(latent_BW.unsqueeze(0))
        if self._diversity_weight > 0:
            for level, codes_B in enumerate(codes_BL.squeeze(0).T):
                self._diversify(level, codes_B)
        return quantised_BW.squeeze(0), commitment_L.sum()

    def _diversify(self, level: int, codes_B: Tensor) -> None:
        averages = self._quantizer.layers[level]._codebook
        codebook_VW = averages.embed.squeeze(0).clone().requires_grad_()
        (gradient_VW,) = torch.autograd.grad(self._diversity[level](codebook_VW, codes_B), codebook_VW)
        weight = self._diversity_weight * codebook_VW.shape[1] / 2
        load_1V1 = averages.cluster_size.clamp(min=self._batch / codebook_VW.shape[0]).unsqueeze(2)
        step_1VW = (1 - self._decay) * self._batch * weight * gradient_VW / load_1V1
        # inner products are unbounded: without this, a large weight would drive codes apart faster than averages follow
        longest = (1 - self._decay) * self._reach[level]
        step_1VW *= (longest / step_1VW.norm(dim=2, keepdim=True).clamp(min=1e-12)).clamp(max=1)
        averages.embed -= step_1VW
        averages.embed_avg -= step_1VW * averages.cluster_size.unsqueeze(2)

    def codebooks(self) -> list[Tensor]:
        """One [V,W] tensor per level."""
        return [layer.codebook.detach().clone() for layer in self._quantizer.layers]


class GumbelRounding(Rounding):
    """Codebooks learnt by gradient: each level uses a mixture of its rows, random at first, the nearest row in the end.

    The mixture is softmax(-d² / (temperature · s) + Gumbel noise). d² are the squared distances to the rows, and s is the
    batch mean of the smallest, so that a temperature has the same effect on every level and for every encoder. The
    temperature falls geometrically from `warmest` to COLDEST. Rows are learnt in units of their initial root mean square, so
    that steps of Adam are relative to the size of a level's residuals. Codes with less than dead_share of the average load
    move onto rows of the batch.
    """

    def __init__(
        self,
        level_sizes: list[int],
        width: int,
        *,
        warmest: float = WARMEST,
        dead_share: float = DEAD_SHARE,
        **settings: Any,
    ) -> None:
        super().__init__(level_sizes, **settings)
        self._units = [nn.Parameter(torch.zeros(size, width)) for size in level_sizes]
        self._scale = [torch.ones(()) for _ in level_sizes]
        self._load = [torch.ones(size) for size in level_sizes]
        self._dead_share = dead_share
        self._warmest = warmest

    def parameters(self) -> list[nn.Parameter]:
        """The codebooks."""
        return self._units

    def start(self, codebooks: list[Tensor], codes_SL: Tensor) -> None:
        """Set the codebooks and the load of each code in the sample."""
        for level, codebook_VW in enumerate(codebooks):
            scale = codebook_VW.square().mean().sqrt()
            self._scale[level] = scale if scale > 0 else torch.ones(())
            self._units[level].data.copy_(codebook_VW / self._scale[level])
            load_V = torch.bincount(codes_SL[:, level], minlength=len(codebook_VW))
            self._load[level] = load_V * (self._batch / len(codes_SL))

    def __call__(self, latent_BW: Tensor, progress: float) -> tuple[Tensor, Tensor]:
        """Sums of mixtures of codebook rows; the loss pulls rows to latents, and latents to rows by the commitment."""
        temperature = self._warmest * (COLDEST / self._warmest) ** progress
        residual_BW, total_BW, loss = latent_BW, torch.zeros_like(latent_BW), torch.zeros(())
        for level, (unit_VW, scale) in enumerate(zip(self._units, self._scale, strict=True)):
            codebook_VW = unit_VW * scale
            squared_BV = torch.cdist(residual_BW, codebook_VW).square()
            smallest_B, codes_B = squared_BV.detach().min(1)
            logits_BV = -squared_BV / (temperature * smallest_B.mean().clamp(min=1e-12))
            gumbel_BV = -torch.empty_like(squared_BV).exponential_().log()
            quantised_BW = (logits_BV + gumbel_BV).softmax(1) @ codebook_VW
            nearest_BW = codebook_VW[codes_B]
            loss = loss + nn.functional.mse_loss(nearest_BW, residual_BW.detach())
            loss = loss + self._commitment * nn.functional.mse_loss(residual_BW, nearest_BW.detach())
            if self._diversity_weight > 0:
                loss = loss + self._diversity_weight * self._diversity[level](codebook_VW, codes_B)
            self._move_unused(level, codes_B, residual_BW.detach())
            residual_BW, total_BW = residual_BW - quantised_BW, total_BW + quantised_BW
        return total_BW, loss

    def _move_unused(self, level: int, codes_B: Tensor, residual_BW: Tensor) -> None:
        """Move rarely used codes onto rows of the batch, and give them the average load."""
        unit_VW, load_V = self._units[level].data, self._load[level]
        average = self._batch / len(unit_VW)
        load_V.lerp_(torch.bincount(codes_B, minlength=len(unit_VW)).to(load_V), 1 - self._decay)
        unused = (load_V < self._dead_share * average).nonzero().squeeze(1)[: len(residual_BW)]
        unit_VW[unused] = residual_BW[torch.randperm(len(residual_BW))[: len(unused)]] / self._scale[level]
        load_V[unused] = average

    def codebooks(self) -> list[Tensor]:
        """One [V,W] tensor per level."""
        return [unit_VW.detach() * scale for unit_VW, scale in zip(self._units, self._scale, strict=True)]
