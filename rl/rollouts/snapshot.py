"""The behaviour policy: a copy of the policy's weights that stays as it is between refreshes."""

from copy import deepcopy
from typing import Any

from onerec.model.generator import Generator


def frozen_copy(policy: Generator) -> Generator:
    """A copy in eval mode that nothing trains; indices that nothing changes (trie, semantic IDs) are shared."""
    shared = {id(one): one for one in (policy.trie, policy.semantic_ids, policy.vocabulary)}
    return deepcopy(policy, shared).eval().requires_grad_(False)


class Snapshot:
    """A policy as it was at the last multiple of N optimizer steps, to generate with and to compare with.

    With `refresh_every` 1 it is the current policy (on-policy). The Technical Report (arXiv 2506.13695) hands new weights to its
    sampling service every 1000 steps; its reference model of DPO in IPA (arXiv 2502.18965) is one that is refreshed every epoch.

    Args:
        policy: what is trained, and copied now.
        refresh_every: optimizer steps between copies, N.
    """

    def __init__(self, policy: Generator, refresh_every: int = 1) -> None:
        if refresh_every < 1:
            raise ValueError(f"refresh_every must be at least 1, got {refresh_every}")
        self._policy, self.refresh_every, self.step = policy, refresh_every, 0
        self._copy = frozen_copy(policy)

    def generator_at(self, step: int) -> Generator:
        """The behaviour policy before optimizer step number `step`, refreshed first where it is due.

        Ask before every step: a copy that is overdue is made from the weights of now.
        """
        due = step - step % self.refresh_every
        if due > self.step:
            self._copy.load_state_dict(self._policy.state_dict())
            self.step = due
        return self._copy

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs to go on with the same behaviour policy."""
        return {"step": self.step, "weights": self._copy.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.step = state["step"]
        self._copy.load_state_dict(state["weights"])
