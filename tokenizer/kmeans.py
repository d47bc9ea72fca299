"""Lloyd's k-means in torch: matrix products in row chunks, empty clusters re-seeded from badly served points.

Libraries that split an empty cluster into two near-copies of a full one leave duplicates in the codebook, and items
collide. Here an empty cluster jumps onto a point, drawn with probability proportional to its squared distance from its
own centroid, so the new centroid always serves somebody.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

CHUNK_ELEMENTS = 1 << 22  # distances held at once (rows x clusters); 16 MiB of float32
REPAIR_ROUNDS = 20  # re-seeding one cluster may empty another; this few rounds settle it in practice

Initialisation = Literal["random", "k-means++"]


@dataclass(frozen=True)
class KMeansResult:
    """centroids_KD; assignment_N (int64) of the fitted rows to them; inertia: sum of squared distances."""

    centroids_KD: Tensor
    assignment_N: Tensor
    inertia: float


def nearest_centroids(x_ND: Tensor, centroids_KD: Tensor) -> tuple[Tensor, Tensor]:
    """Nearest centroid of each row, int64 [N], and the squared Euclidean distance to it, float [N].

    Memory is bounded by CHUNK_ELEMENTS distances, whatever N and K are. Ties go to the lower index.
    """
    squared_K = centroids_KD.square().sum(1)
    transposed_DK = centroids_KD.T.contiguous()
    assignment, distance = [], []
    for rows in x_ND.split(max(1, CHUNK_ELEMENTS // len(centroids_KD))):
        # |x|^2 is the same for all centroids of a row: leave it out of the comparison
        score_RK = torch.addmm(squared_K, rows, transposed_DK, alpha=-2.0)
        index = score_RK.argmin(1)
        assignment.append(index)
        # the expanded form cancels badly for points close to their centroid; the plain one on the winner is exact
        distance.append((rows - centroids_KD[index]).square().sum(1))
    return torch.cat(assignment), torch.cat(distance)


def kmeans(
    x_ND: Tensor,
    clusters: int,
    *,
    iterations: int = 25,
    seed: int = 0,
    initialisation: Initialisation = "random",
    restarts: int = 1,
) -> KMeansResult:
    """Fit `clusters` centroids to the rows of x_ND; of several restarts the one with the lowest inertia is returned.

    Stops before `iterations` when no assignment changes. The same seed gives the same result on the same machine. With
    no more distinct rows than clusters every row ends on a centroid and the clusters left over repeat one of them.
    """
    results = (
        _one_run(x_ND, clusters, iterations, torch.Generator().manual_seed(seed * 1_000_003 + restart), initialisation)
        for restart in range(max(1, restarts))
    )
    return min(results, key=lambda result: result.inertia)


def _one_run(
    x_ND: Tensor, clusters: int, iterations: int, generator: torch.Generator, initialisation: Initialisation
) -> KMeansResult:
    start = _plus_plus_rows if initialisation == "k-means++" else _random_rows
    centroids_KD = x_ND[start(x_ND, clusters, generator)].clone()
    assignment_N, distance_N = nearest_centroids(x_ND, centroids_KD)
    for _ in range(iterations):
        previous_N = assignment_N
        centroids_KD = _means(x_ND, assignment_N, centroids_KD)
        reseeded = _reseed_empty(x_ND, centroids_KD, assignment_N, distance_N, generator)
        assignment_N, distance_N = nearest_centroids(x_ND, centroids_KD)
        if not reseeded and torch.equal(assignment_N, previous_N):
            break
    for _ in range(REPAIR_ROUNDS):
        if not _reseed_empty(x_ND, centroids_KD, assignment_N, distance_N, generator):
            break
        assignment_N, distance_N = nearest_centroids(x_ND, centroids_KD)
    return KMeansResult(centroids_KD, assignment_N, float(distance_N.double().sum()))


def _random_rows(x_ND: Tensor, clusters: int, generator: torch.Generator) -> Tensor:
    rows = torch.randperm(len(x_ND), generator=generator)[:clusters]
    repeats = -(-clusters // len(rows))
    return rows.repeat(repeats)[:clusters].to(x_ND.device)


def _plus_plus_rows(x_ND: Tensor, clusters: int, generator: torch.Generator) -> Tensor:
    """k-means++ (Arthur and Vassilvitskii 2007): each next start is drawn by squared distance to the ones before."""
    rows = [int(torch.randint(len(x_ND), (1,), generator=generator))]
    distance_N = torch.full((len(x_ND),), torch.inf, device=x_ND.device)
    while len(rows) < clusters:
        distance_N = torch.minimum(distance_N, (x_ND - x_ND[rows[-1]]).square().sum(1))
        drawn = _draw_by_weight(distance_N, 1, generator)
        rows.append(int(drawn[0]) if len(drawn) else rows[0])
    return torch.tensor(rows, device=x_ND.device)


def _means(x_ND: Tensor, assignment_N: Tensor, centroids_KD: Tensor) -> Tensor:
    """Mean of every cluster's rows; a cluster without rows keeps its centroid."""
    sums_KD = torch.zeros_like(centroids_KD).index_add_(0, assignment_N, x_ND)
    counts_K1 = torch.bincount(assignment_N, minlength=len(centroids_KD)).unsqueeze(1)
    return torch.where(counts_K1 > 0, sums_KD / counts_K1.clamp(min=1), centroids_KD)


def _reseed_empty(
    x_ND: Tensor, centroids_KD: Tensor, assignment_N: Tensor, distance_N: Tensor, generator: torch.Generator
) -> int:
    """Move empty clusters, in place, onto rows that lie off their centroid. Returns how many were moved."""
    empty = (torch.bincount(assignment_N, minlength=len(centroids_KD)) == 0).nonzero().squeeze(1)
    if not len(empty):
        return 0
    rows = _draw_by_weight(distance_N, len(empty), generator)
    centroids_KD[empty[: len(rows)]] = x_ND[rows]
    return len(rows)


def _draw_by_weight(weight_N: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Up to `count` different rows with positive weight, drawn without replacement (Efraimidis and Spirakis keys).

    torch.multinomial stops at 2^24 rows; exponential keys have no such limit.
    """
    weight_N = weight_N.detach().cpu().double()
    keys_N = torch.empty_like(weight_N).exponential_(generator=generator) / weight_N
    # below this share of the largest, a "distance" is rounding of a row that sits on its centroid
    usable = int((weight_N > weight_N.max() * 1e-10).sum())
    keys_N[weight_N <= weight_N.max() * 1e-10] = torch.inf
    return keys_N.topk(min(count, usable), largest=False).indices.to(weight_N.device)
