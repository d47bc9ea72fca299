"""A reward model as the judge of lists."""

import numpy as np
import torch

from onerec.data.requests import Requests
from onerec.run.models import JUDGED, Judge
from onerec.run.run import Run
from onerec.scorers.preference_score import PreferenceScore
from rl.config.run import config_of
from rl.reward_model.choice import judging_name, reward_names, selects
from rl.reward_model.stage import RewardStage, load_preference_score


def judge_named(run: Run, name: str) -> Judge:
    """The trained reward model of a stage as a judge."""
    stage, score = run.stages[name], load_preference_score(run, name)
    assert isinstance(stage, RewardStage)
    title = "reward model of all users" if stage.half is None else f"reward model of the {stage.half} half of users"
    return Judge(title, lambda requests, items_CK: mean_score(score, requests, items_CK))


def judge_of(run: Run) -> Judge | None:
    """The judge of the lists of `onerec run`; None if there is none.

    A reward model that selects does not judge. A single reward model of all users only selects.
    """
    config = config_of(run)
    trained = [name for name in reward_names(config) if run.artefact(name).done]
    name = judging_name(config)
    if name is None or name not in trained or (selects(config) and len(trained) < 2):
        return None
    return judge_named(run, name)


def mean_score(score: PreferenceScore, requests: Requests, items_CK: np.ndarray) -> np.ndarray:
    """The mean P-Score of each list's first ten items, float64 `[C]`; 0 for an empty list."""
    top_CK = items_CK[:, :JUDGED]
    listed_CK = torch.from_numpy(top_CK >= 0)
    scores_CK = torch.from_numpy(score.p_scores(requests, top_CK)).double()
    mean_C: np.ndarray = ((scores_CK * listed_CK).sum(dim=1) / listed_CK.sum(dim=1).clamp(min=1)).numpy()
    return mean_C
