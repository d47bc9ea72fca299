"""The stage that learns which of the generator's candidates to list. It keeps all that a list needs."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from onerec.data.split import even_rows
from onerec.errors import UserError
from onerec.recommenders.cascade import Cascade
from onerec.recommenders.content_knn import ContentKNN
from onerec.recommenders.generator import GeneratorRecommender, GeneratorWithNewItems
from onerec.run.artefact import check_intact
from onerec.run.models import Model
from onerec.run.run import Facts, Run, Stage
from onerec.run.stages.generator import GeneratorStage, load_generator, training_facts
from onerec.run.stages.semantic_ids import item_encoder
from onerec.scorers.candidate_features import NEWEST_ONLY, CandidateFeatures
from onerec.scorers.co_occurrence import CoOccurrence
from onerec.scorers.linear_weights import LinearWeights
from onerec.scorers.selection import SelectionScorer, SelectionSection, fit_selection, fitting_requests
from onerec.train.runtime import set_threads

SCORER_FILE = "scorer.json"
NEW_ITEMS_FILE = "new_items.npy"
CO_OCCURRENCE, DIRECTLY_AFTER = "co_occurrence", "directly_after"  # folders with what was counted
FORMAT = 2  # format 1 kept only the weights, and counted again for every list


class SelectionStage(Stage):
    """Fit the scorer that ranks the generator's candidates. It is fitted on validation requests, which training never saw."""

    name = kind = "selection"
    needs = ("generator",)

    def asked(self, run: Run) -> bool:
        return run.config.selection is not None

    def recipe(self, run: Run) -> tuple[Any, ...]:
        section = run.config.selection
        return (section.model_dump() if section else None, run.config.recommend.exclude_seen, FORMAT)

    def make(self, run: Run, folder: Path) -> Facts:
        section = section_of(run)
        run.say(f"selection: fitting a scorer of candidates on a beam of {section.beam_width}")
        set_threads(run.config.threads, run.config.generator.width)
        _count(run, section, folder)
        generator = load_generator(run, beam_width=section.beam_width)
        features = load_features(run, folder, generator)
        requests = run.requests("valid")
        even = even_rows(len(requests), section.fit_cases)
        fitting = fitting_requests(requests, even, features, section.new_item_weight)
        finder, wide = candidate_finder(run, generator, features)
        exclude_seen = run.config.recommend.exclude_seen
        candidates = finder.recommend(fitting.requests, wide, exclude_seen=exclude_seen)
        scorer, figures = fit_selection(candidates, features, fitting)
        if not figures["pays"]:
            run.say("selection: no gain on validation requests that were held out; lists keep the generator's order")
        scorer.weights.save(folder / SCORER_FILE, **figures)
        return {}

    def models(self, run: Run) -> Iterable[Model]:
        artefact, generator = run.artefact(self.name), run.artefact(GeneratorStage.name)

        def facts() -> dict[str, Any]:
            known = training_facts(generator.folder)
            check_intact(artefact.folder)
            fitted = json.loads((artefact.folder / SCORER_FILE).read_text(encoding="utf-8"))
            return {
                **known,
                "selection": fitted,
                "parameters": known["parameters"] + len(fitted["weights"]),
                "train_seconds": known["train_seconds"] + artefact.seconds,
            }

        yield Model(
            name="onerec_selection",
            label="OneRec + selection",
            description="the generator's wide beam, ranked by a scorer fitted on validation",
            own=True,
            key=artefact.key,
            load=lambda: load_selection(run),
            facts=facts,
            lists_folder=Path("lists") / "onerec_selection",
        )

    def notes(self, run: Run) -> Iterable[str]:
        yield (
            f"Selection's weights were fitted on up to {section_of(run).fit_cases} of the validation requests. Its validation "
            "figures are therefore not held-out figures; its test figures are."
        )


def section_of(run: Run) -> SelectionSection:
    """The run's settings of selection. Raises UserError if it is off."""
    if run.config.selection is None:
        raise UserError(
            "the config says selection: null; give it a section selection (configs/demo.yaml explains its keys)"
        )
    return run.config.selection


def load_selection(run: Run) -> Cascade:
    """The generator with selection from its beam. Selection is fitted first if it is not yet."""
    folder = run.make(SelectionStage.name)
    generator = load_generator(run, beam_width=section_of(run).beam_width)
    features = load_features(run, folder, generator)
    weights = LinearWeights.load(folder / SCORER_FILE, features.names)
    finder, wide = candidate_finder(run, generator, features)
    return Cascade(finder, wide, SelectionScorer(features, weights))


def candidate_finder(
    run: Run, generator: GeneratorRecommender, features: CandidateFeatures
) -> tuple[GeneratorRecommender | GeneratorWithNewItems, int]:
    """What finds the candidates, and how many: the generator's beam, followed by new items if there are any."""
    section = section_of(run)
    if features.new_items_M is None:
        return generator, section.beam_width
    content = ContentKNN(features.vectors["content"], section.decay, features.new_items_M, run.config.seed)
    wide = section.beam_width + section.new_items
    return GeneratorWithNewItems(generator, content, section.new_items), wide


def load_features(run: Run, folder: Path, generator: GeneratorRecommender) -> CandidateFeatures:
    """The features of candidates, from the counts that the stage has kept."""
    section, encoder = section_of(run), item_encoder(run)
    blocks = {"content": encoder.described, "behaviour": encoder.behaviour_ND}
    try:
        co_occurrence = CoOccurrence(section.co_occurrence).load(folder / CO_OCCURRENCE)
        directly_after = CoOccurrence(NEWEST_ONLY).load(folder / DIRECTLY_AFTER)
        new_M = np.load(folder / NEW_ITEMS_FILE, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UserError(f"{folder}: no readable counts ({error}); delete the folder and run again") from error
    return CandidateFeatures(
        generator.generator.item_scorer is not None,
        co_occurrence,
        directly_after,
        {name: block_ND for name, block_ND in blocks.items() if block_ND.shape[1]},
        section.decay,
        new_M if section.new_items and len(new_M) and encoder.described.shape[1] else None,
    )


def _count(run: Run, section: SelectionSection, folder: Path) -> None:
    """Count the training part once, so that making a list needs no counting."""
    training, item_count = run.training, len(run.item_ids)
    CoOccurrence(section.co_occurrence, seed=run.config.seed).fit(*training, item_count).save(folder / CO_OCCURRENCE)
    CoOccurrence(NEWEST_ONLY).fit(*training, item_count).save(folder / DIRECTLY_AFTER)
    np.save(folder / NEW_ITEMS_FILE, np.flatnonzero(np.bincount(training[0], minlength=item_count) == 0))
