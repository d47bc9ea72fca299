"""LETTER's two regularisation terms for RQ-VAE, collaborative and diversity, as functions of tensors (arXiv 2405.07314).

The collaborative term is a contrastive loss between a quantised item and its own behaviour vector among those of the batch.
The diversity term groups the codes of a level into clusters of bounded size. It pulls each used code towards another code of
its cluster and away from all others, so that the loads of the codes become more even.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from tokenizer.clustering.kmeans import lloyd

CLUSTER_ROUNDS = 5  # rounds of assignment within the size bounds and new means, after plain k-means
RENEW_STEPS = 50  # clusters are computed again after this many steps, because codes move


def behaviour_loss(quantised_BK: Tensor, behaviour_BK: Tensor, temperature: float = 1.0) -> Tensor:
    """Mean cross entropy of each row's own behaviour vector among those of the batch, by inner products / temperature.

    Rows whose behaviour vector is zero are left out on both sides. The loss is 0 if fewer than two rows remain.
    """
    known_B = behaviour_BK.any(1)
    if int(known_B.sum()) < 2:
        return quantised_BK.sum() * 0
    logits_RR = quantised_BK[known_B] @ behaviour_BK[known_B].T / temperature
    return functional.cross_entropy(logits_RR, torch.arange(len(logits_RR)))


def diversity_loss(codebook_VW: Tensor, codes_B: Tensor, partners_B: Tensor) -> Tensor:
    """Mean cross entropy of each used code's partner among all other codes of the level, by inner products.

    codes_B, partners_B: int64; a partner differs from its code. Only the codebook has a gradient.
    """
    logits_BV = codebook_VW[codes_B] @ codebook_VW.T
    logits_BV = logits_BV.scatter(1, codes_B.unsqueeze(1), -torch.inf)
    return functional.cross_entropy(logits_BV, partners_B)


def random_partners(codes_B: Tensor, cluster_V: Tensor) -> Tensor:
    """Draw for each code another code of its cluster, uniformly, int64 [B]; every cluster needs at least two codes."""
    order_V = cluster_V.argsort(stable=True)
    size_K = torch.bincount(cluster_V)
    first_K = size_K.cumsum(0) - size_K
    rank_V = torch.empty_like(order_V)
    rank_V[order_V] = torch.arange(len(order_V)) - first_K[cluster_V[order_V]]
    cluster_B = cluster_V[codes_B]
    others_B = size_K[cluster_B] - 1
    step_B = 1 + (torch.rand(len(codes_B)) * others_B).long().clamp(max=others_B - 1)
    return order_V[first_K[cluster_B] + (rank_V[codes_B] + step_B) % size_K[cluster_B]]


def cluster_codes(codebook_VW: Tensor, clusters: int, seed: int = 0) -> Tensor:
    """Cluster of each code, int64 [V], by k-means with sizes between half and twice the average, and at least two.

    There are at most half as many clusters as codes. The codebook needs at least two codes.
    """
    clusters = max(1, min(clusters, len(codebook_VW) // 2))
    centroids_KW = torch.from_numpy(lloyd(codebook_VW.numpy(), clusters, seed=seed).centroids_KD)
    least, most = max(2, len(codebook_VW) // (2 * clusters)), -(-2 * len(codebook_VW) // clusters)
    for _ in range(CLUSTER_ROUNDS):
        distance_VK = torch.cdist(codebook_VW, centroids_KW)
        cluster_V = torch.from_numpy(_assign_within(distance_VK.numpy(), least, most))
        sums_KW = torch.zeros_like(centroids_KW).index_add_(0, cluster_V, codebook_VW)
        centroids_KW = sums_KW / torch.bincount(cluster_V, minlength=clusters).unsqueeze(1)
    return cluster_V


def _assign_within(distance_VK: np.ndarray, least: int, most: int) -> np.ndarray:
    """Fill every cluster to its least size, the closest pairs first; the other codes go to the nearest with room."""
    codes, clusters = distance_VK.shape
    cluster_V, size_K = np.full(codes, -1), np.zeros(clusters, dtype=int)
    pairs = np.argsort(distance_VK, axis=None, kind="stable")
    for bound in (least, most):
        for code, cluster in zip(*np.divmod(pairs, clusters), strict=True):
            if cluster_V[code] < 0 and size_K[cluster] < bound:
                cluster_V[code] = cluster
                size_K[cluster] += 1
    return cluster_V


class CodeDiversity:
    """The diversity loss of one level during training; clusters are computed again every RENEW_STEPS calls."""

    def __init__(self, clusters: int) -> None:
        self._clusters = clusters
        self._calls = 0
        self._cluster_V = torch.zeros(0, dtype=torch.int64)

    def __call__(self, codebook_VW: Tensor, codes_B: Tensor) -> Tensor:
        """Loss of these codes, with partners drawn by torch's random state; 0 for a level with one code."""
        if len(codebook_VW) < 2:
            return codebook_VW.sum() * 0
        if self._calls % RENEW_STEPS == 0:
            self._cluster_V = cluster_codes(codebook_VW.detach(), self._clusters)
        self._calls += 1
        return diversity_loss(codebook_VW, codes_B, random_partners(codes_B, self._cluster_V))
