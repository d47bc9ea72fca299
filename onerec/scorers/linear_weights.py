"""Weights of candidate features, learnt from the candidates that users took."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from onerec.errors import UserError
from onerec.files import write_json

FIRST_FEATURE = "log_probability"


@dataclass(frozen=True)
class LinearWeights:
    """A linear scorer: a weighted sum of features, with a softmax over the candidates of a request.

    Attributes:
        names: of the F features.
        weights_F: float64.
    """

    names: list[str]
    weights_F: np.ndarray

    @classmethod
    def trusting(cls, names: list[str]) -> Self:
        """Weights that keep the generator's order."""
        return cls(names, np.array([float(name == FIRST_FEATURE) for name in names]))

    @classmethod
    def fit(
        cls,
        names: list[str],
        features_CKF: np.ndarray,
        found_CK: np.ndarray,
        chosen_C: np.ndarray,
        counts_C: np.ndarray | None = None,
    ) -> Self:
        """Fit weights by maximum likelihood of the items that users took among their candidates (conditional logit).

        A penalty pulls the weights towards the generator's order. It is the squared distance from that order's weights, for
        standardised features, and counts once for the whole sample. So it matters less as the sample grows.

        Args:
            names: of the features; the first is the generator's log-probability.
            features_CKF: float32 `[C, K, F]`.
            found_CK: where there is a candidate.
            chosen_C: position of the taken item among the K candidates, -1 if it is not among them.
            counts_C: weight of each request; None: 1.
        """
        rows = np.flatnonzero(chosen_C >= 0)
        start_F = cls.trusting(names).weights_F
        if not len(rows):
            return cls(names, start_F)
        features_XKF = torch.from_numpy(features_CKF[rows]).double()
        found_XK, chosen_X = torch.from_numpy(found_CK[rows]), torch.from_numpy(chosen_C[rows]).long()
        counts_X = torch.from_numpy(np.ones(len(rows)) if counts_C is None else counts_C[rows])
        spread_F = features_XKF[found_XK].std(dim=0, correction=0).clamp(min=1e-9)
        prior_F = torch.from_numpy(start_F) * spread_F
        standard_XKF = features_XKF / spread_F
        weights_F = prior_F.clone().requires_grad_(True)
        optimizer = torch.optim.LBFGS([weights_F], max_iter=200, line_search_fn="strong_wolfe")

        def loss() -> torch.Tensor:
            optimizer.zero_grad()
            scores_XK = (standard_XKF @ weights_F).masked_fill(~found_XK, -torch.inf)
            taken_X = torch.nn.functional.cross_entropy(scores_XK, chosen_X, reduction="none")
            value: torch.Tensor = (counts_X * taken_X).sum() + (weights_F - prior_F).square().sum()
            value.backward()
            return value

        optimizer.step(loss)
        return cls(names, (weights_F.detach() / spread_F).numpy())

    def log_probabilities(self, features_CKF: np.ndarray, found_CK: np.ndarray) -> np.ndarray:
        """Log-probabilities over each request's candidates, float32 `[C, K]`, -inf where there is no candidate."""
        scores_CK = np.where(found_CK, features_CKF @ self.weights_F, -np.inf)
        highest_C1 = np.max(scores_CK, axis=1, keepdims=True, initial=-1e30)
        total_C1 = np.log(np.exp(scores_CK - highest_C1).sum(axis=1, keepdims=True).clip(min=1e-300)) + highest_C1
        scored: np.ndarray = np.where(found_CK, scores_CK - total_C1, -np.inf).astype(np.float32)
        return scored

    def save(self, path: Path, **facts: Any) -> None:
        """Write the weights and facts about them as JSON."""
        write_json(path, {"weights": dict(zip(self.names, self.weights_F.tolist(), strict=True)), **facts})

    @classmethod
    def load(cls, path: Path, names: list[str]) -> Self:
        """The weights that `save` wrote. Raises UserError if the file is unreadable or names other features than `names`."""
        try:
            weights = json.loads(path.read_text(encoding="utf-8"))["weights"]
            if list(weights) != names:
                raise UserError(
                    f"{path}: has weights for {', '.join(weights)}, not for {', '.join(names)}; "
                    f"delete {path.parent} and run `onerec run` again"
                )
            return cls(names, np.array([float(weights[name]) for name in names]))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{path}: no readable weights there ({error}); delete {path.parent} and run `onerec run` again"
            ) from error
