"""Looking ahead: what the item scorer expects behind a code, summed over the very items that the code leads to.

A code has to be chosen before the item is known, and the head that chooses it must have learnt by itself what all items behind
it are worth. Where the catalogue is small enough to score whole, that can be known: added to a code's logit, the logarithm of
the scores' exponentials summed over its subtree makes the first code as well informed as a softmax over items. With heads that
say nothing the generator is that softmax, exactly; what the heads learn comes on top. The sums are those over which an item
model's posterior would be distilled into prefixes; used as they are, nothing has to be distilled.
"""

from typing import Any

import torch
from torch import Tensor

from onerec.decode.item_trie import ItemTrie

SMALLEST = 1e-30  # of a sum, beside the largest exponential of 1: what is less likely than that counts as this


def ahead_of_targets(scores_NX: Tensor, trie: ItemTrie, targets_X: Tensor) -> tuple[list[Tensor], Tensor]:
    """Logits on the paths to known items, differentiable, without the sums that no path needs.

    Args:
        scores_NX: a score of every item, in the order of `trie.items`, for each of X contexts.
        targets_X: the item that each context leads to.

    Returns:
        for each level `[X, M]`, what lies behind each child of the state that the target's path is in, up to a constant of the
        context; and `[X]`, the negative log-likelihood of the targets in nats by the scores alone.
    """
    groups_N = trie.child_places_NL[trie.items, 0]
    counts_G = groups_N.bincount()
    starts_X = (counts_G.cumsum(0) - counts_G)[trie.child_places_NL[targets_X, 0]]
    counts_X = counts_G[trie.child_places_NL[targets_X, 0]]
    steps_W1 = torch.arange(int(counts_X.max()) if len(targets_X) else 0, device=targets_X.device)[:, None]
    inside_WX = steps_W1 < counts_X
    leaves_WX = torch.where(inside_WX, starts_X + steps_W1, 0)
    sums_GX, behind_WX = _SubtreeSums.apply(scores_NX, groups_N, len(counts_G), leaves_WX)
    ahead, items_WX = [_logarithm(sums_GX).T], trie.items[leaves_WX]
    for level in range(1, trie.levels):
        on_path_WX = inside_WX & (trie.states_NL[items_WX, level] == trie.states_NL[targets_X, level])
        places_WX = trie.child_places_NL[items_WX, level].masked_fill(~on_path_WX, 0)
        sums_MX = behind_WX.new_zeros(trie.branches[level], len(targets_X))
        ahead.append(_logarithm(sums_MX.scatter_add(0, places_WX, behind_WX * on_path_WX)).T)
    targets_1X = (trie.leaves_of(targets_X) - starts_X)[None]
    return ahead, sums_GX.sum(dim=0).log() - _logarithm(behind_WX.gather(0, targets_1X)[0])


def ahead_of_all(scores_NB: Tensor, trie: ItemTrie) -> Tensor:
    """Logits of all edges of the trie for each of B contexts, `[B, edges]`: the same figures, for decoding.

    Args:
        scores_NB: a score of every item, in the order of `trie.items`.
    """
    sums_SB = (scores_NB - scores_NB.amax(dim=0)).exp()
    levels = [sums_SB]
    for parents_S in reversed(trie.parents()[1:]):
        sums_SB = sums_SB.new_zeros(int(parents_S[-1]) + 1, sums_SB.shape[1]).index_add(0, parents_S, sums_SB)
        levels.append(sums_SB)
    return _logarithm(torch.cat(levels[::-1])).T.contiguous()


class _SubtreeSums(torch.autograd.Function):
    """Sums of exponentials: over groups of items, `[G, X]`, and single ones, `[W, X]`.

    One function for both, because what is large here is items x contexts: it is written once on the way back, not once per use.
    """

    @staticmethod
    def forward(ctx: Any, scores_NX: Tensor, groups_N: Tensor, groups: int, single_WX: Tensor) -> tuple[Tensor, Tensor]:
        exponentials_NX = (scores_NX - scores_NX.amax(dim=0)).exp_()
        sums_GX = exponentials_NX.new_zeros(groups, exponentials_NX.shape[1]).index_add_(0, groups_N, exponentials_NX)
        ctx.save_for_backward(exponentials_NX, groups_N, single_WX)
        return sums_GX, exponentials_NX.gather(0, single_WX)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, None, None, None]:
        exponentials_NX, groups_N, single_WX = ctx.saved_tensors
        gradient_NX = gradients[0].index_select(0, groups_N)
        gradient_NX.scatter_add_(0, single_WX, gradients[1])
        return gradient_NX.mul_(exponentials_NX), None, None, None


def _logarithm(sums: Tensor) -> Tensor:
    return sums.clamp(min=SMALLEST).log()
