"""Run folders of earlier versions still open: the keys of what took long to make are what they were."""

from pathlib import Path

import pytest
from reward_data import planted_events, quick_run, write_planted

from onerec.errors import UserError
from onerec.run.artefact import Artefact, key_of
from onerec.run.opening import reopen_run
from onerec.run.run import Run
from onerec.run.stages.generator import check_trained
from rl.config.run import config_of


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run over planted preferences whose stages are not made."""
    folder = tmp_path_factory.mktemp("old")
    write_planted(folder / "data", planted_events(12))
    return quick_run(folder, folder / "data", "rsft.session_events=4", "align.rewards.p_score=0.5")


def former_keys(run: Run) -> dict[str, str]:
    """The keys as each stage wrote them down before they were made of recipes and needs."""
    config, seed = config_of(run), run.config.seed
    data = key_of(run.dataset.sha256, config.dataset.model_dump(exclude={"folder", "fetch"}, mode="json"))
    validation = {
        "validation_users": config.evaluate.validation_users,
        "validation_beam_width": config.evaluate.validation_beam_width,
        "exclude_seen": config.recommend.exclude_seen,
    }
    assert config.baselines.sasrec and config.reward and config.rsft
    ids = key_of("ids", data, config.tokenizer.model_dump(), seed)
    generator = key_of("generator", ids, config.generator.model_dump(), config.train.model_dump(), seed, validation)
    keys = {
        "sequences": key_of("sequences", data),
        "semantic_ids": ids,
        "generator": generator,
        "baselines/sasrec": key_of("sasrec", data, config.baselines.sasrec.model_dump(), seed, validation),
        "rsft": (rsft := key_of("rsft", generator, config.rsft.model_dump(), seed)),
    }
    for half in (None, "first", "second"):
        section = config.reward.model_copy(update={"half": half}).model_dump(exclude={"selection"})
        name = "reward" if half is None else f"reward_{half}"
        keys[name] = key_of("reward", ids, section, seed)
        keys[f"{name}/evaluation"] = key_of("reward evaluation", keys[name], config.evaluate.bootstrap_samples)
    rewarding = keys["reward_first"]  # the second half of the users judges
    align = config.align.model_dump(exclude={"judge_half", "exposures"})
    keys["aligned_ecpo"] = aligned = key_of("align", rsft, rewarding, align, seed)
    width, exclude_seen = config.reward.selection.beam_width, config.recommend.exclude_seen
    for name, proposing in (("reward_first/selection", generator), ("aligned_ecpo/selection_reward_first", aligned)):
        keys[name] = key_of("reward selection", rewarding, proposing, width, exclude_seen)
    return keys


def test_keys_are_those_of_earlier_versions(run: Run) -> None:
    former = former_keys(run)
    assert {name: run.key(name) for name in former} == former
    # Selection keeps what it counted, and baselines without training keep lists alone: these are made again, in seconds.
    assert {name for name, stage in run.stages.items() if stage.stored} - set(former) == {"selection"}


def test_alignment_by_rules_kept_a_place_for_the_reward_model(run: Run, tmp_path: Path) -> None:
    ruled = quick_run(tmp_path, run.dataset.folder, "align.rewards.p_score=0", "align.rewards.hit=1")
    align = config_of(ruled).align.model_dump(exclude={"judge_half", "exposures"})
    assert ruled.key("aligned_ecpo") == key_of("align", ruled.key("generator"), None, align, ruled.config.seed)


def test_a_folder_with_such_keys_opens_and_any_other_is_refused(run: Run) -> None:
    generator = Artefact(run.folder / "generator", former_keys(run)["generator"])
    generator.begin()
    run.keep_config()
    generator.finish()
    check_trained(reopen_run(run.folder, []))
    another = Artefact(run.folder / "generator", key_of("another"))
    another.begin()
    another.finish()
    with pytest.raises(UserError, match="its generator is not trained to the end"):
        reopen_run(run.folder, [])
