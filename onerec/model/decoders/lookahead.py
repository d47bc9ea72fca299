"""Lookahead: add to each code's logit what the item scorer expects of the items behind that code.

The model chooses a code before it knows the item, so the code's head would have to learn what all items behind the code are
worth. In a catalogue small enough to score as a whole, this can be computed: it is the log of the summed exponentials of the
scores in the code's subtree. Added to the code's logit, it makes the first code as well informed as a softmax over items. If
the heads give 0 for every code, the generator equals that softmax exactly. What the heads learn comes on top.

The sums are those that one would use to distil an item model's posterior into prefixes. Here they are used directly, so there
is nothing to distil.
"""

from typing import Any

import torch
from torch import Tensor

from onerec.decode.item_trie import ItemTrie

SMALLEST = 1e-30  # smallest sum that is told from 0; the largest exponential of a context is 1


def ahead_of_targets(scores_NX: Tensor, trie: ItemTrie, targets_X: Tensor) -> tuple[list[Tensor], Tensor]:
    """Lookahead logits along the paths to given items. Differentiable; sums that no path needs are not computed.

    Args:
        scores_NX: a score of every item for each of X contexts, in the order of `trie.items`.
        targets_X: the target item of each context.

    Returns:
        For each level `[X, M]`, the lookahead logits of all children of the state on the target's path, up to a constant per
        context. And `[X]`, the negative log-likelihood of the targets in nats by the scores alone.
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
    """Lookahead logits of all edges of the trie for each of B contexts, `[B, edges]`: the same numbers, for decoding.

    Args:
        scores_NB: a score of every item for each context, in the order of `trie.items`.
    """
    sums_SB = (scores_NB - scores_NB.amax(dim=0)).exp()
    levels = [sums_SB]
    for parents_S in reversed(trie.parents()[1:]):
        sums_SB = sums_SB.new_zeros(int(parents_S[-1]) + 1, sums_SB.shape[1]).index_add(0, parents_S, sums_SB)
        levels.append(sums_SB)
    return _logarithm(torch.cat(levels[::-1])).T.contiguous()


class _SubtreeSums(torch.autograd.Function):
    """Exponentials summed over groups of items, `[G, X]`, and single exponentials, `[W, X]`.

    One function computes both, because the gradient of items x contexts is large: this way it is written once, not once per
    use.
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
