"""The behaviour policy: a copy of the policy that is refreshed every few steps."""

from copy import deepcopy
from typing import Any

from onerec.model.generator import Generator


def frozen_copy(policy: Generator) -> Generator:
    """A copy in eval mode that is not trained. It shares what never changes: trie, semantic IDs and vocabulary."""
    shared = {id(one): one for one in (policy.trie, policy.semantic_ids, policy.vocabulary)}
    return deepcopy(policy, shared).eval().requires_grad_(False)


class Snapshot:
    """The policy as it was at the last multiple of N optimizer steps.

    With `refresh_every` 1 it is the current policy (on-policy). The Technical Report (arXiv 2506.13695) sends new weights to its
    sampling service every 1000 steps. IPA (arXiv 2502.18965) refreshes DPO's reference model every epoch.

    Args:
        policy: the policy in training; it is copied at once.
        refresh_every: optimizer steps between copies, N.
    """

    def __init__(self, policy: Generator, refresh_every: int = 1) -> None:
        if refresh_every < 1:
            raise ValueError(f"refresh_every must be at least 1, got {refresh_every}")
        self._policy, self.refresh_every, self.step = policy, refresh_every, 0
        self._copy = frozen_copy(policy)

    def generator_at(self, step: int) -> Generator:
        """The behaviour policy of optimizer step `step`, after a refresh if one is due.

        Call this before every step, because a refresh copies the current weights.
        """
        due = step - step % self.refresh_every
        if due > self.step:
            self._copy.load_state_dict(self._policy.state_dict())
            self.step = due
        return self._copy

    def state_dict(self) -> dict[str, Any]:
        """The state for a checkpoint."""
        return {"step": self.step, "weights": self._copy.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state of `state_dict`."""
        self.step = state["step"]
        self._copy.load_state_dict(state["weights"])
