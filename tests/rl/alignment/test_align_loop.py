"""The loop of alignment: every objective raises the reward, a killed run ends the same, and a collapse stops it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from align_cases import (
    EXPOSURES_ALONE,
    FREE,
    ITEMS,
    KINDS,
    curves,
    expected_reward,
    likes_and_dislikes,
    make_loop,
    policy_of,
    settings,
    small_exposures,
    weights_of,
)

from onerec.errors import UserError
from onerec.model.generator import Generator
from rl.alignment.loop import AlignLoop

OBJECTIVES = ("ecpo", "gbpo", "grpo", "dpo", "ipa")
every_kind = pytest.mark.parametrize("kind", list(KINDS))


@every_kind
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_raises_a_planted_reward_on_both_decoders(kind: str, objective: str, tmp_path: Path) -> None:
    policy = policy_of(kind)
    before = expected_reward(policy)
    config = settings(objective=objective, steps=25, next_code={"batch_size": 8, "weight": 0.1})
    make_loop(tmp_path, policy, config).run()
    assert expected_reward(policy) > before + 0.1
    assert not policy.training
    lines = curves(tmp_path)
    assert [line["step"] for line in lines] == list(range(1, 26))
    assert all(np.isfinite(list(line.values())).all() for line in lines)
    assert {"reward", "reward_spread", "reward/odd", "entropy", "ratio_mean", "gradient_norm"} <= set(lines[0])
    assert {line["step"] for line in lines if "kl_to_start" in line} == {1, 11, 21, 25}
    assert all(("negative_gradient_norm" in line) == ("kl_to_start" in line) for line in lines)
    assert lines[0]["negative_gradient_norm"] > 0
    assert lines[0]["kl_to_start"] == pytest.approx(0, abs=1e-5)
    assert lines[-1]["kl_to_start"] > 0.01
    assert lines[0]["ratio_max"] == pytest.approx(1, abs=1e-4)
    assert lines[0]["legality"] == 1
    assert lines[0]["items_in_group"] == 1


@pytest.mark.parametrize("method", ["sample", "without_replacement"])
def test_samples_raise_the_reward_too(method: str, tmp_path: Path) -> None:
    policy = policy_of("encoder_decoder")
    before = expected_reward(policy)
    rollouts = {"group_size": 8, "method": method, "temperature": 1.2, "exclude_seen": True}
    make_loop(tmp_path, policy, settings(rollouts=rollouts, steps=25)).run()
    assert expected_reward(policy) > before + 0.05


@pytest.mark.parametrize(
    ("kind", "changed"),
    [
        ("encoder_decoder", {"objective": "ecpo", "rollouts": {"group_size": 8, "method": "sample"}}),
        ("encoder_decoder", {"objective": "dpo", "negatives": "random", "batch_size": 10}),
        ("lazy", {"objective": "gbpo", "refresh_every": 3}),
        ("experts", {"objective": "ipa", "prompts": {"share": 0.5}}),
        ("encoder_decoder", EXPOSURES_ALONE | {"exposures": {"weight": 0.5, "batch_size": 25}}),
        ("encoder_decoder", {"exposures": {"weight": 0.5, "batch_size": 25}, "rollouts": {"group_size": 4}}),
        (
            "encoder_decoder",
            {"objective": "ipa", "exposures": {"weight": 2.0, "batch_size": 200}, "rollouts": {"group_size": 4}},
        ),
    ],
)
def test_a_killed_alignment_ends_like_an_uninterrupted_one(
    kind: str, changed: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps behind the checkpoint are lost: killed after 5 it goes on from 4, in the middle of a snapshot's life.

    Of 90 exposures in batches of 25 an epoch ends with the fourth step.
    """
    exposures, step = likes_and_dislikes() if "exposures" in changed else None, AlignLoop._step

    def policy() -> Generator:
        return policy_of("encoder_decoder", experts=4) if kind == "experts" else policy_of(kind)

    def killed_step(loop: AlignLoop, *rows: np.ndarray) -> dict[str, float]:
        if loop.position.step == 5:
            raise KeyboardInterrupt
        return step(loop, *rows)

    whole, again, config = policy(), policy(), settings(steps=8, **changed)
    make_loop(tmp_path / "whole", whole, config, exposures=exposures).run()
    with monkeypatch.context() as patched:
        patched.setattr(AlignLoop, "_step", killed_step)
        with pytest.raises(KeyboardInterrupt):
            make_loop(tmp_path / "killed", policy(), config, exposures=exposures).run()
    assert len(curves(tmp_path / "killed")) == 5
    torch.rand(3)  # what others draw in between changes nothing
    make_loop(tmp_path / "killed", again, config, exposures=exposures).run()
    assert torch.equal(weights_of(again), weights_of(whole))
    assert all(torch.equal(one, other) for one, other in zip(again.buffers(), whole.buffers(), strict=True))
    assert curves(tmp_path / "killed") == curves(tmp_path / "whole")


def test_the_next_code_loss_is_part_of_the_gradient_or_left_out(tmp_path: Path) -> None:
    ends, losses = {}, {}
    for weight in (0.0, 0.5, 1.0):
        policy, folder = policy_of("encoder_decoder"), tmp_path / str(weight)
        config = settings(next_code={"weight": weight, "batch_size": 8}, steps=1, clip_norm=100.0)
        make_loop(folder, policy, config).run()
        ends[weight], losses[weight] = weights_of(policy), curves(folder)[0]
    assert "next_code_loss" not in losses[0.0]
    assert losses[0.0]["gradient_norm"] == losses[0.0]["objective_gradient_norm"]
    assert losses[0.5]["next_code_loss"] == losses[1.0]["next_code_loss"]
    assert losses[0.5]["objective_gradient_norm"] == losses[1.0]["objective_gradient_norm"]
    assert losses[0.5]["gradient_norm"] != losses[1.0]["gradient_norm"]
    assert not torch.equal(ends[0.0], ends[0.5]) and not torch.equal(ends[0.5], ends[1.0])


def test_the_next_code_loss_falls_while_rewards_rise(tmp_path: Path) -> None:
    policy = policy_of("encoder_decoder")
    make_loop(tmp_path, policy, settings(steps=40)).run()
    losses = [line["next_code_loss"] for line in curves(tmp_path)]
    assert np.mean(losses[-3:]) < np.mean(losses[:3]) - 0.1


def test_a_group_without_differences_teaches_nothing(tmp_path: Path) -> None:
    for objective in ("ecpo", "dpo"):
        policy = policy_of("lazy")
        before = weights_of(policy)
        config = settings(objective=objective, next_code={"weight": 0.0}, steps=2)
        make_loop(tmp_path / objective, policy, config, lambda _, made: torch.ones_like(made.items_BG).float()).run()
        assert torch.equal(weights_of(policy), before)


def test_the_reference_of_ipa_is_refreshed_every_epoch(tmp_path: Path) -> None:
    """24 prompts in batches of 8 are three steps; the ratio to the reference is one again after them."""
    make_loop(tmp_path, policy_of("encoder_decoder"), settings(objective="ipa", steps=7)).run()
    at_one = [line["step"] for line in curves(tmp_path) if abs(line["ratio_max"] - 1) < 1e-4]
    assert at_one == [1, 4, 7]


def test_alignment_stops_when_legality_collapses_and_saves_the_policy(tmp_path: Path) -> None:
    policy = policy_of("encoder_decoder", **FREE)
    config = settings(
        rollouts={"group_size": 8, "method": "free"},
        illegal="worst",
        next_code={"weight": 0.0},
        steps=200,
        learning_rate=0.01,
        limits={"legality": 0.05, "patience": 3, "entropy": 0.0},
        checkpoint_every=1000,
    )
    loop = make_loop(tmp_path, policy, config, lambda _, made: (~made.legal).float())
    with pytest.raises(UserError, match=r"legality has collapsed.*align\.limits\.legality.*align\.format\.weight"):
        loop.run()
    lines = curves(tmp_path)
    assert [line["legality"] < 0.05 for line in lines[-3:]] == [True] * 3
    assert len(lines) < 200
    saved = Generator.from_pretrained(tmp_path / "stopped")
    assert torch.equal(weights_of(saved), weights_of(policy))


@pytest.mark.parametrize("figure", ["entropy", "exposure_entropy"])
def test_alignment_stops_when_entropy_collapses(figure: str, tmp_path: Path) -> None:
    changed = {} if figure == "entropy" else EXPOSURES_ALONE
    more = {"steps": 300, "learning_rate": 0.02, "refresh_every": 1, "limits": {"entropy": 0.5, "patience": 2}}
    config = settings(**changed, **more, next_code={"weight": 0.0})
    exposures = small_exposures((np.arange(ITEMS) == 7).astype(np.int8)) if changed else None
    loop = make_loop(
        tmp_path, policy_of("lazy"), config, lambda _, made: (made.items_BG == made.items_BG.min()).float(), exposures
    )
    with pytest.raises(UserError, match=r"entropy has collapsed.*learning_rate"):
        loop.run()
    lines = curves(tmp_path)
    assert lines[-1][figure] < 0.5 * lines[0][figure]


def test_a_loss_that_is_not_finite_stops_before_the_weights_are_spoilt(tmp_path: Path) -> None:
    policy = policy_of("encoder_decoder")
    loop = make_loop(tmp_path, policy, settings())
    original = loop._learn_next_codes

    def broken(rows: np.ndarray) -> torch.Tensor:
        loss = original(rows)
        return loss * torch.nan if loop.position.step == 2 else loss

    loop._learn_next_codes = broken  # type: ignore[method-assign]
    with pytest.raises(UserError, match=r"stopped after step 2: next_code_loss is nan"):
        loop.run()
    assert weights_of(policy).isfinite().all()
    assert (tmp_path / "stopped" / "model.safetensors").exists()


def test_the_format_reward_keeps_free_generations_legal(tmp_path: Path) -> None:
    """The planted reward says nothing about legality; with the format reward there is more of it at the end."""
    ends = {}
    for weight in (0.0, 1.0):
        policy, folder = policy_of("encoder_decoder", **FREE), tmp_path / str(weight)
        config = settings(
            rollouts={"group_size": 16, "method": "free"},
            format={"weight": weight, "chosen": 5},
            next_code={"weight": 0.0},
            limits={"legality": 0.0, "entropy": 0.0},
            steps=40,
        )
        make_loop(folder, policy, config).run()
        lines = curves(folder)
        assert ("format_loss" in lines[0]) == (weight > 0)
        ends[weight] = np.mean([line["legality"] for line in lines[-5:]])
    assert ends[1.0] > ends[0.0] + 0.1


def test_free_rollouts_need_a_generator_that_has_probabilities_of_all_codes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"generator\.softmax=full"):
        make_loop(tmp_path, policy_of("encoder_decoder"), settings(rollouts={"method": "free"}))
