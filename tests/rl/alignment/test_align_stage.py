"""The stage and the command of alignment, from a trained generator to the evaluation of the aligned one."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from align_cases import curves
from command_line import configured, file_states
from reward_data import QUICK, planted_events, quick_run, write_planted

from onerec.cli import main
from onerec.cli.align import reward_overrides
from onerec.errors import UserError
from onerec.model.generator import Generator
from onerec.recommenders.generator import GeneratorRecommender
from onerec.run.config_files import load_config
from onerec.run.lists import lists_of
from rl.alignment.evaluation import AFTER, BEFORE, evaluate_alignment
from rl.alignment.rewards import load_rewards
from rl.alignment.stage import align_generator, aligned_model, load_aligned
from rl.config.run import AlignmentRunConfig, config_of
from rl.reward_model.choice import judging_name, rewarding_name
from rl.reward_model.selection import RewardSelectionStage

ALIGN = (
    "reward.train.epochs=5",
    "align.rollouts.group_size=8",
    "align.batch_size=16",
    "align.steps=12",
    "align.learning_rate=0.002",
    "align.checkpoint_every=5",
    "align.rollouts.exclude_seen=false",
)
RULES = ("align.rewards.p_score=0", "align.rewards.hit=1")
LAZY = ("generator.decoder=lazy", "generator.encoder_layers=0")
PATHWAYS = ("generator.pathways.stream=all", "generator.pathways.event_features=all")


@pytest.fixture(scope="module")
def runs(planted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs whose generator is trained."""
    folder = tmp_path_factory.mktemp("runs")
    quick_run(folder, planted, *ALIGN, *PATHWAYS).make("generator")
    return folder


def command(runs: Path, planted: Path, *words: str) -> list[str]:
    return ["align", *configured("planted", planted, *QUICK, *ALIGN, *PATHWAYS), "--runs", str(runs), *words]


def test_the_command_needs_only_a_trained_generator(
    runs: Path, planted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(runs, planted, "--objective", "gbpo")) == 0
    output = capsys.readouterr().out
    assert "aligned - before" in output and "p_score@10" in output
    folder = runs / "planted" / "aligned_gbpo"
    assert {"model", "metrics.jsonl", "training.json", "results.json"} <= {path.name for path in folder.iterdir()}
    assert not (folder / "checkpoint.pt").exists()
    assert (runs / "planted" / "reward_first" / "model").exists()  # rewards
    assert (runs / "planted" / "reward_second" / "model").exists()  # judges
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert set(results["models"]) == {BEFORE, AFTER}
    assert results["judge"] == "reward model of the second half of users"
    for part in ("valid", "test"):
        for model in results["models"].values():
            assert {"recall@10", "recall@50", "ndcg@10", "coverage@10", "p_score@10"} <= set(model[part])
    pair = results["paired"][f"{AFTER} - {BEFORE}"]
    for name in ("recall@10", "ndcg@10", "p_score@10"):
        before, after = (results["models"][model]["test"][name]["value"] for model in (BEFORE, AFTER))
        assert pair[name]["value"] == pytest.approx(after - before, abs=1e-9)
        assert pair[name]["low"] <= pair[name]["value"] <= pair[name]["high"]
    start, aligned = (
        Generator.from_pretrained(runs / "planted" / name / "model") for name in ("generator", folder.name)
    )
    assert not all(one.equal(other) for one, other in zip(start.parameters(), aligned.parameters(), strict=True))

    before_again = file_states(folder / "model")
    assert main(command(runs, planted, "--objective", "gbpo")) == 0
    assert file_states(folder / "model") == before_again


@pytest.mark.parametrize("objective", ["ecpo", "grpo", "dpo", "ipa"])
def test_every_objective_has_its_stage(objective: str, runs: Path, planted: Path) -> None:
    run = quick_run(runs, planted, *ALIGN, *PATHWAYS, f"align.objective={objective}")
    align_generator(run)
    results = evaluate_alignment(run, "a test")
    assert results["models"][AFTER]["objective"] == objective
    requests, aligned = run.requests("test"), load_aligned(run, objective)
    assert aligned.recommend(requests, 5, exclude_seen=True).items_CK.shape == (len(requests), 5)
    stage = run.stages[f"aligned_{objective}/selection_reward_first"]
    assert isinstance(stage, RewardSelectionStage)
    selecting = stage.load(run).recommender
    assert (run.folder / stage.name / "weight.json").exists()
    assert isinstance(selecting, GeneratorRecommender)
    weights = aligned.generator.state_dict()
    assert all(one.equal(weights[name]) for name, one in selecting.generator.state_dict().items())


def test_an_aligned_generator_recommends(runs: Path, planted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command(runs, planted, "--objective", "ipa")) == 0
    assert main(command(runs, planted, "--objective", "ecpo", "align.steps=3")) == 0
    capsys.readouterr()
    said = []
    for words in ([], ["--aligned", "ipa"], ["--aligned", "ecpo"]):
        assert main(["recommend", str(runs / "planted"), "--user", "u3", "--count", "20", *words]) == 0
        said.append(capsys.readouterr().out)
    assert len(set(said)) == 3
    shutil.rmtree(runs / "planted" / "aligned_ipa")
    assert main(["recommend", str(runs / "planted"), "--user", "u3", "--aligned", "ipa"]) == 2
    assert "onerec align --objective ipa" in capsys.readouterr().err


def test_alignment_raises_the_judges_score_and_the_share_of_liked_items(tmp_path: Path) -> None:
    """Users like one of two kinds of items, which a generator of two epochs does not tell apart yet."""
    write_planted(tmp_path / "data", planted_events(300))
    learns = ("align.steps=60", "align.learning_rate=0.003", "align.next_code.weight=0.1", "reward.train.epochs=20")
    learns += ("align.final_learning_rate_share=1",)
    run = quick_run(tmp_path, tmp_path / "data", *ALIGN, *PATHWAYS, *learns, "recommend.exclude_seen=false")
    run.make("generator")
    align_generator(run)
    results = evaluate_alignment(run, "a test")
    assert results["paired"][f"{AFTER} - {BEFORE}"]["p_score@10"]["low"] > 0.1
    rewards = [line["reward/p_score"] for line in curves(run.folder / "aligned_ecpo")]
    assert np.mean(rewards[-5:]) > np.mean(rewards[:5]) + 0.05
    users = np.array([int(run.sequences.user_ids[int(user)][1:]) % 2 for user in run.requests("test").users_C])
    lists = [lists_of(run, model)["test"][:, :10] for model in (run.models()["onerec"], aligned_model(run))]
    liked = [((items_CK >= 20) == users[:, None]).mean() for items_CK in lists]
    assert liked[0] < 0.6
    assert liked[1] > 0.85


def test_a_lazy_decoder_is_aligned_by_rules_without_a_reward_model(planted: Path, tmp_path: Path) -> None:
    held = "align.scenario={column: shape, value: s1, factor: 0.5, most: 0.05}"
    run = quick_run(tmp_path, planted, *ALIGN, *LAZY, *RULES, "align.rewards.rank=1", held)
    with pytest.raises(UserError, match="onerec train"):
        align_generator(run)
    run.make("generator")
    align_generator(run)
    results = evaluate_alignment(run, "a test")
    assert results["judge"] is None
    assert "p_score@10" not in results["models"][AFTER]["test"]
    assert not list(run.folder.glob("reward*"))
    assert load_rewards(run).in_class_N is not None


def test_the_judge_gives_no_rewards(runs: Path, planted: Path) -> None:
    def names(*overrides: str) -> tuple[str | None, ...]:
        config = config_of(quick_run(runs, planted, *ALIGN, *PATHWAYS, *overrides))
        return rewarding_name(config), judging_name(config)

    assert names() == ("reward_first", "reward_second")
    assert names("align.judge_half=first") == ("reward_second", "reward_first")
    assert names("align.judge_half=null") == ("reward", None)
    assert names(*RULES, "align.judge_half=null") == (None, "reward")


def test_a_trained_reward_model_judges_alignment_by_rules(runs: Path, planted: Path) -> None:
    run = quick_run(runs, planted, *ALIGN, *PATHWAYS, *RULES, "align.steps=1")
    run.make("reward_second")
    align_generator(run)
    assert evaluate_alignment(run, "a test")["judge"] == "reward model of the second half of users"


def test_another_setting_changes_the_key_and_another_judge_does_not(runs: Path, planted: Path) -> None:
    def key(*overrides: str) -> str:
        return quick_run(runs, planted, *ALIGN, *PATHWAYS, *overrides).key("aligned_ecpo")

    assert key() == key("align.judge_half=second") == key("evaluate.bootstrap_samples=300")
    others = [key(one) for one in ("align.steps=13", "align.clip=0.3", "reward.width=8", "train.epochs=3", "seed=4")]
    others.append(key("align.judge_half=first"))  # then the other one rewards
    assert len({key(), *others}) == 7


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--objective", "ppo"], 'key "align.objective"'),
        (["--reward", "clicks"], 'there is no reward "clicks"'),
        (["--reward", "hit=much"], 'key "align.rewards.hit"'),
        (["--reward", "hit=0"], "all weights are 0"),
    ],
)
def test_wrong_words_are_refused_in_one_line(
    words: list[str], message: str, runs: Path, planted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(runs, planted, *words)) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1


def test_named_rewards_replace_those_of_the_config(planted: Path) -> None:
    def weights(*named: str) -> tuple[dict[str, float], float]:
        of_file = ("align.objective=gbpo", "align.exposures.weight=2")
        path, *overrides = configured("x", planted, *of_file, *reward_overrides([*named]))
        config = load_config(Path(path), overrides)
        assert isinstance(config, AlignmentRunConfig)
        return config.align.rewards.used, config.align.exposures.weight

    assert weights() == ({"p_score": 1.0}, 2.0)
    assert weights("hit", "rank=0.5") == ({"hit": 1.0, "rank": 0.5}, 0.0)
    assert weights("duration_aware=0.5") == ({}, 0.5)
    assert weights("p_score", "duration_aware") == ({"p_score": 1.0}, 1.0)


def test_several_processes_are_refused(runs: Path, planted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = quick_run(runs, planted, *ALIGN, *PATHWAYS)
    monkeypatch.setitem(run.state.__dict__, "num_processes", 2)
    with pytest.raises(UserError, match="one process"):
        align_generator(run)
