"""The recommenders that every run compares its generator with, in the order of tables. A new one is a line here."""

from onerec.recommenders.content_knn import ContentKNN
from onerec.recommenders.item_knn import ItemKNN
from onerec.recommenders.popularity import Popularity
from onerec.recommenders.recommender import FittedRecommender, TrainedRecommender
from onerec.recommenders.sasrec import SASRecRecommender

TRAINED: tuple[type[TrainedRecommender], ...] = (SASRecRecommender,)
FITTED: tuple[type[FittedRecommender], ...] = (ItemKNN, ContentKNN, Popularity)
