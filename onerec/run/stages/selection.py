"""The stage of a run that learns which items of the beam to list."""

from typing import TYPE_CHECKING

import numpy as np

from onerec.baselines.content_knn import ContentKNN
from onerec.baselines.item_knn import ItemKNN
from onerec.config import SelectionSection
from onerec.data.split import even_rows
from onerec.decode.recommend import GeneratorRecommender
from onerec.select.evidence import Evidence, directly_after
from onerec.select.recommend import SelectingRecommender, fit_scorer, fitting_cases
from onerec.select.scorer import Scorer
from onerec.train.runtime import set_threads
from tokenizer.item_encoder import ItemEncoder

if TYPE_CHECKING:
    from onerec.pipeline import Run

SCORER_FILE = "scorer.json"


def fit_selection(run: "Run") -> None:
    """Fit the scorer that selects from the beam on validation cases, which no training saw."""
    stage, section = run.selection_stage, run.config.selection
    if stage.done or section is None:
        return
    stage.begin()
    run.say(f"selection: weighing what speaks for the items of a beam of {section.beam_width}")
    set_threads(run.config.threads, run.config.generator.width)
    generator = proposing_generator(run, section)
    evidence = make_evidence(run, section, generator)
    cases = run.cases("valid")
    fitting = fitting_cases(cases, even_rows(len(cases), section.fit_cases), evidence, section.new_item_weight)
    exclude_seen = run.config.recommend.exclude_seen
    scorer, figures = fit_scorer(generator, evidence, fitting, exclude_seen, run.readings(fitting.cases))
    if not figures["pays"]:
        run.say("selection: no gain on validation cases that were not fitted; lists keep the generator's order")
    scorer.save(stage.folder / SCORER_FILE, **figures)
    stage.finish()


def load_selection(run: "Run") -> SelectingRecommender:
    """Beam search followed by selection; fitted first where it is not yet."""
    section = run.config.selection
    assert section is not None
    fit_selection(run)
    generator = proposing_generator(run, section)
    evidence = make_evidence(run, section, generator)
    scorer = Scorer.load(run.selection_stage.folder / SCORER_FILE, evidence.names)
    return SelectingRecommender(generator, evidence, scorer)


def proposing_generator(run: "Run", section: SelectionSection) -> GeneratorRecommender:
    """The trained generator with as wide a beam as selection wants."""
    generator = run.load_generator()
    generator.beam_width = section.beam_width
    return generator


def make_evidence(run: "Run", section: SelectionSection, generator: GeneratorRecommender) -> Evidence:
    """What selection knows beside the generator, from training events and item content."""
    co_occurrence = ItemKNN(**section.co_occurrence.model_dump(), seed=run.config.seed)
    encoder = ItemEncoder.load(run.ids_stage.folder / "encoder")
    vectors = {"content": encoder.described, "behaviour": encoder.behaviour_ND}
    return Evidence(
        generator.generator.item_scorer is not None,
        co_occurrence.fit(*run.training, len(run.item_ids)),
        directly_after(*run.training, len(run.item_ids)),
        {name: block_ND for name, block_ND in vectors.items() if block_ND.shape[1]},
        section.decay,
        _new_items(run, section, encoder.described),
        section.new_items,
    )


def _new_items(run: "Run", section: SelectionSection, content_ND: np.ndarray) -> ContentKNN | None:
    """Finds items without training events by their content; None where there are none to find."""
    new_M = np.flatnonzero(np.bincount(run.training[0], minlength=len(run.item_ids)) == 0)
    if not (section.new_items and len(new_M) and content_ND.shape[1]):
        return None
    return ContentKNN(content_ND, section.decay, new_M, run.config.seed)
