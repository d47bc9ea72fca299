"""The top lists of a run's models, made once and kept in its folder."""

import numpy as np

from onerec.evaluate.ranking import LIST_LENGTH
from onerec.run.models import EVALUATED_PARTS, Model, lists_artefact, make_lists
from onerec.run.run import Run
from onerec.train.runtime import set_threads

LISTS_FILE = "lists.npz"


def lists_of(run: Run, model: Model) -> dict[str, np.ndarray]:
    """A model's lists of 50 for validation and test requests, loaded or made; see `make_lists`."""
    exclude_seen = run.config.recommend.exclude_seen
    artefact = lists_artefact(model, run.folder, exclude_seen, run.config.seed)
    if not artefact.done:
        run.say(f"{model.label}: recommending to validation and test users")
        set_threads(run.config.threads, run.config.generator.width)
        asked = {part: run.requests(part) for part in EVALUATED_PARTS}  # type: ignore[arg-type]
        made = make_lists(model, asked, LIST_LENGTH, exclude_seen=exclude_seen)
        run.hold()
        artefact.recover()
        folder = artefact.begin()  # only now: loading may make a stage again whose folder holds the lists
        np.savez(folder / LISTS_FILE, **made)  # type: ignore[arg-type]
        artefact.finish(float(made["fit_seconds"] + made["seconds"]))
    with np.load(artefact.folder / LISTS_FILE) as stored:
        return dict(stored)


def lists_of_all(run: Run) -> dict[str, dict[str, np.ndarray]]:
    """The lists of all models by name, ours first."""
    models = sorted(run.models().values(), key=lambda model: not model.own)
    return {model.name: lists_of(run, model) for model in models}
