"""The recommenders that every run compares its generator with, in the order of tables. A new one is a line here.

Each is a class by the name of its file, which is also its key under `baselines` in the config.
"""

from importlib import import_module
from typing import Any

from onerec.recommenders.recommender import FittedRecommender, TrainedRecommender

TRAINED = {
    "sasrec": "SASRecRecommender",
}
FITTED = {
    "item_knn": "ItemKNN",
    "content_knn": "ContentKNN",
    "popularity": "Popularity",
}


def trained_recommenders() -> list[type[TrainedRecommender]]:
    """Those around a network that the trainer trains."""
    return _classes(TRAINED)


def fitted_recommenders() -> list[type[FittedRecommender]]:
    """Those without training."""
    return _classes(FITTED)


def _classes(registered: dict[str, str]) -> list[Any]:
    return [getattr(import_module(f"onerec.recommenders.{file}"), name) for file, name in registered.items()]
