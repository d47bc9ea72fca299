"""The trl adapter: every loss type and our objectives train a generator, with the probabilities of the policy that sampled."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from align_cases import ITEMS, KINDS, expected_reward, make_prompts, weights_of
from generator_cases import make_generator
from request_cases import histories_of
from torch import Tensor
from trl import GRPOConfig

from onerec.data.requests import Requests
from onerec.errors import UserError
from onerec.model.bound_generator import item_log_probabilities
from onerec.model.generator import Generator
from rl.alignment.trl_adapter import LOSS_TYPES, TrlAdapter, _by_user, trl_config
from rl.objectives import ecpo, gbpo, group_advantages, grpo
from rl.rollouts.policy import batch_of, score_codes
from rl.rollouts.rollouts import Rollouts

USERS, GROUP = 8, 4
LEVELS = [*((loss_type, "token") for loss_type in LOSS_TYPES), ("grpo", "sequence"), ("luspo", "sequence")]
OWN = {"ecpo": partial(ecpo, level="item"), "ecpo_code": partial(ecpo, level="code"), "gbpo": gbpo}
LOSSES = [
    *(pytest.param(None, {"loss_type": name, "importance_sampling_level": level}) for name, level in LEVELS),
    *(pytest.param(objective, {}, id=name) for name, objective in OWN.items()),
]
every_kind = pytest.mark.parametrize("kind", list(KINDS))


def scored(
    generator: Generator, prompts: Requests, codes_BGL: Tensor, items_BG: Tensor, free: bool = False
) -> Rollouts:
    """Rollouts of given codes, with the generator's probabilities."""
    made = score_codes(generator, batch_of(generator, prompts), codes_BGL, free)
    return Rollouts(codes_BGL, items_BG, made.log_probabilities_BGL)


def random_items(generator: Generator) -> Callable[[Requests, int], Rollouts]:
    """Rollouts of items drawn evenly, with the probabilities of the generator as it is at that moment."""
    draw = torch.Generator().manual_seed(5)

    def rollout(prompts: Requests, group: int) -> Rollouts:
        items_BG = torch.randint(ITEMS, (len(prompts), group), generator=draw)
        return scored(generator, prompts, generator.tokens.codes_NL[items_BG], items_BG)

    return rollout


def likes_odd_items(prompts: Requests, rollouts: Rollouts) -> Tensor:
    return (rollouts.items_BG % 2).float() + rollouts.items_BG / 100


def make_trainer(
    folder: Path,
    generator: Generator,
    objective: Any = None,
    rewards: Any = None,
    rollout: Any = None,
    kind: type[TrlAdapter] = TrlAdapter,
    free: bool = False,
    **settings: Any,
) -> TrlAdapter:
    """Eight generations a step, and two steps for each sixteen generations: in the second, ratios are no longer 1."""
    chosen = {"per_device_train_batch_size": 8, "steps_per_generation": 2, "num_generations": GROUP, "max_steps": 2}
    quiet = {"learning_rate": 0.01, "logging_steps": 1, "disable_tqdm": True}
    args = trl_config(generator, folder, **{**chosen, **quiet, **settings})
    made = (rollout or random_items(generator), rewards or {"odd": likes_odd_items})
    return kind(generator, make_prompts(USERS), *made, args, free=free, objective=objective)


def logged(trainer: TrlAdapter, name: str) -> list[float]:
    return [entry[name] for entry in trainer.state.log_history if name in entry]


@every_kind
@pytest.mark.parametrize(("objective", "settings"), LOSSES)
def test_every_loss_type_and_objective_takes_steps(
    kind: str, objective: Any, settings: dict[str, Any], tmp_path: Path
) -> None:
    generator = make_generator(**KINDS[kind])
    before = weights_of(generator)
    trainer = make_trainer(tmp_path, generator, objective, **settings)
    assert torch.equal(weights_of(generator), before)
    trainer.train()
    assert len(logged(trainer, "loss")) == 2 and np.isfinite(logged(trainer, "loss")).all()
    assert min(logged(trainer, "grad_norm")) > 1e-4 and np.isfinite(logged(trainer, "grad_norm")).all()
    assert (weights_of(generator) - before).abs().max() > 1e-3 and weights_of(generator).isfinite().all()
    assert not generator.training
    for name in ("ratio/mean", "ratio/max", "clip_ratio/region_mean", "negative_coefficient", "entropy"):
        assert objective is None or len(logged(trainer, name)) == 2
    if objective not in (None, gbpo):
        assert logged(trainer, "ratio/max")[0] == pytest.approx(1, abs=1e-4)
        assert logged(trainer, "ratio/max")[1] > 1.01


def test_policy_optimisation_raises_the_reward_of_likely_items(tmp_path: Path) -> None:
    generator = make_generator(**KINDS["encoder_decoder"])
    before = expected_reward(generator)
    make_trainer(tmp_path, generator, partial(ecpo, level="item"), max_steps=20).train()
    assert expected_reward(generator) > before + 0.1


class Compared(TrlAdapter):
    """Computes every loss a second time, with our GRPO on the tensors that trl's had."""

    differences: list[float]
    ratios: list[float]

    def _compute_loss(self, model: Any, inputs: Any) -> Tensor:
        loss = super()._compute_loss(model, inputs)
        ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
        log_probabilities, _, _ = self._get_per_token_logps_and_entropies(model, ids, None, 3)  # type: ignore[arg-type]
        old, advantages = inputs["old_per_token_logps"], inputs["advantages"]
        ours = grpo(log_probabilities[:, None], advantages[:, None], old[:, None])
        ours_gradients, gradients = (
            torch.autograd.grad(one, self.model.generator.decoder.heads[0].weight, retain_graph=True)[0]
            for one in (ours.loss, loss)
        )
        self.differences += [(ours.loss - loss).abs().item(), (ours_gradients - gradients).abs().max().item()]
        self.ratios.append(float(ours.ratio_max))
        return loss


@every_kind
def test_trls_grpo_equals_ours(kind: str, tmp_path: Path) -> None:
    generator = make_generator(**KINDS[kind])
    trainer = make_trainer(tmp_path, generator, kind=Compared, loss_type="grpo", num_iterations=2, max_steps=4)
    assert isinstance(trainer, Compared)
    trainer.differences, trainer.ratios = [], []
    trainer.train()
    assert len(trainer.differences) == 8 and max(trainer.differences) <= 1e-6
    assert trainer.ratios[0] == pytest.approx(1, abs=1e-5) and max(trainer.ratios) > 1.1


def test_inputs_of_a_loss_are_those_of_the_rollouts(tmp_path: Path) -> None:
    """Whatever trl shuffles and cuts: codes, prompts, old probabilities and advantages of a generation stay together."""
    generator = make_generator()
    snapshot = deepcopy(generator)
    for one in snapshot.parameters():
        torch.nn.init.normal_(one, std=0.2)
    made: list[tuple[Requests, Rollouts]] = []

    def from_snapshot(prompts: Requests, group: int) -> Rollouts:
        made.append((prompts, random_items(snapshot)(prompts, group)))
        return made[-1][1]

    trainer = make_trainer(tmp_path, generator, rollout=from_snapshot)
    repeated = [{"prompt": row} for row in (6, 2, 5, 0) for _ in range(GROUP)]
    trainer.model.train()
    steps = [trainer._prepare_inputs(repeated)]
    trainer._step += 1
    steps.append(trainer._prepare_inputs(repeated))
    ((asked, rollouts),) = made
    advantages_BG = group_advantages(likes_odd_items(asked, rollouts))
    wanted = {}
    histories, every_history = histories_of(asked), histories_of(make_prompts(USERS))
    for user, row in enumerate((6, 2, 5, 0)):
        assert histories[user] == every_history[row]
        for place in range(GROUP):
            key = (row, *rollouts.codes_BGL[user, place].tolist())
            wanted[key] = [*rollouts.log_probabilities_BGL[user, place].tolist(), float(advantages_BG[user, place])]
    names = ("prompt_ids", "completion_ids", "old_per_token_logps", "advantages")
    seen = [row for inputs in steps for row in zip(*(inputs[name] for name in names), strict=True)]
    assert len(seen) == 4 * GROUP
    for row, codes, old, advantage in seen:
        # trl divides by the standard deviation + 0.0001.
        assert [*old.tolist(), float(advantage)] == pytest.approx(wanted[(int(row), *codes.tolist())], rel=1e-3)


def test_code_sequences_are_grouped_by_user() -> None:
    draw = torch.Generator().manual_seed(0)
    rows, codes = torch.randint(5, (17,), generator=draw), torch.randint(9, (17, 3), generator=draw)
    rows_B, codes_BGL, user_X, place_X = _by_user(rows, codes)
    assert torch.equal(rows_B[user_X], rows) and torch.equal(codes_BGL[user_X, place_X], codes)
    assert len({*zip(user_X.tolist(), place_X.tolist(), strict=True)}) == 17
    assert codes_BGL.shape == (5, int(rows.bincount().max()), 3)


def test_log_probabilities_of_rows_are_those_of_the_policy(tmp_path: Path) -> None:
    generator = make_generator(**KINDS["lazy"])
    trainer, items = make_trainer(tmp_path, generator), torch.tensor([3, 9, 3, 40, 7])
    rows = [5, 0, 5, 2, 0]
    ids = torch.cat([torch.tensor(rows)[:, None], generator.tokens.codes_NL[items]], dim=1)
    for batch_size in (None, 2):
        found, entropies, _ = trainer._get_per_token_logps_and_entropies(
            trainer.model, ids, torch.ones_like(ids), 3, batch_size=batch_size, compute_entropy=True
        )
        prompts = make_prompts(USERS).pick(np.array(rows))
        wanted = score_codes(generator, batch_of(generator, prompts), ids[:, None, 1:], free=False)
        torch.testing.assert_close(found, wanted.log_probabilities_BGL[:, 0], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(entropies, wanted.entropies_BGL[:, 0], rtol=1e-5, atol=1e-5)


def test_free_policies_train_on_generations_that_are_no_items(tmp_path: Path) -> None:
    generator = make_generator(softmax="full", item_head=False)
    known = {tuple(codes): item for item, codes in enumerate(generator.tokens.codes_NL.tolist())}
    draw = torch.Generator().manual_seed(5)

    def rollout(prompts: Requests, group: int) -> Rollouts:
        codes = torch.stack([torch.randint(size, (len(prompts), group), generator=draw) for size in (5, 6, 7)], dim=-1)
        items = [[known.get(tuple(one), -1) for one in user] for user in codes.tolist()]
        return scored(generator, prompts, codes, torch.tensor(items), free=True)

    def legal_share() -> float:
        items = torch.arange(len(known)).expand(USERS, -1)
        shares = item_log_probabilities(generator, batch_of(generator, make_prompts(USERS)), items).exp()
        return float(shares.sum(dim=1).mean())

    before, rewards = legal_share(), {"legality": lambda prompts, rollouts: rollouts.legal.float()}
    trainer = make_trainer(tmp_path, generator, gbpo, rewards, rollout, free=True, max_steps=30)
    trainer.train()
    assert 0 < logged(trainer, "rewards/legality/mean")[0] < 1
    assert legal_share() > before + 0.1


def test_the_reference_of_the_kl_term_is_the_start(tmp_path: Path) -> None:
    generator = make_generator()
    before = weights_of(generator)
    trainer = make_trainer(tmp_path, generator, beta=0.1)
    trainer.train()
    assert logged(trainer, "kl")[0] == pytest.approx(0, abs=1e-6) and logged(trainer, "kl")[1] > 1e-5
    assert torch.equal(weights_of(trainer.ref_model.generator), before)
    synced = make_trainer(
        tmp_path, generator, beta=0.1, sync_ref_model=True, ref_model_sync_steps=2, ref_model_mixup_alpha=1.0
    )
    synced.train()
    assert torch.equal(weights_of(synced.ref_model.generator), weights_of(generator))


def test_several_rewards_are_weighted(tmp_path: Path) -> None:
    rewards = {"odd": likes_odd_items, "nothing": lambda prompts, rollouts: torch.zeros(rollouts.items_BG.shape)}
    trainer = make_trainer(tmp_path, make_generator(), rewards=rewards, reward_weights=[2.0, 5.0])
    trainer.train()
    assert logged(trainer, "reward") == pytest.approx(
        [2 * one for one in logged(trainer, "rewards/odd/mean")], rel=1e-5
    )
    assert logged(trainer, "rewards/nothing/mean") == [0]


def test_an_interrupted_run_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    ends = []
    for interrupted in (False, True):
        generator, folder = make_generator(), tmp_path / str(interrupted)
        settings = {"save_strategy": "steps", "save_steps": 2, "max_steps": 4, "lr_scheduler_type": "constant"}
        calls = []

        def rollout(prompts: Requests, group: int, model: Generator = generator, calls: list[int] = calls) -> Rollouts:
            """The generations depend on the prompts alone, so that a fresh process makes the same."""
            calls.append(len(prompts))
            items_BG = (torch.from_numpy(prompts.targets_C)[:, None].long() * 7 + torch.arange(group) * 5) % ITEMS
            return scored(model, prompts, model.tokens.codes_NL[items_BG], items_BG)

        trainer = make_trainer(folder, generator, rollout=rollout, **settings)
        if interrupted:
            trainer.args.max_steps = 2
            trainer.train()
            torch.nn.init.normal_(generator.decoder.heads[0].weight)  # a fresh process has other weights
            trainer = make_trainer(folder, generator, rollout=rollout, **settings)
            trainer.train(resume_from_checkpoint=True)
        else:
            trainer.train()
        assert calls == [4, 4]
        ends.append(weights_of(generator))
    torch.testing.assert_close(ends[0], ends[1])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": 0.7}, "temperature=0.7 has no effect here: the rollouts decide"),
        ({"mask_truncated_completions": True}, "mask_truncated_completions=True .*: it is for language models"),
        ({"objective": gbpo, "beta": 0.1}, "beta=0.1 has no effect here: `objective` replaces"),
        ({"objective": gbpo, "loss_type": "grpo"}, "loss_type='grpo' has no effect here"),
        ({"loss_type": "ecpo"}, 'no loss_type "ecpo"; it has grpo, dr_grpo'),
        ({"max_completion_length": 5}, "max_completion_length is 5, but the generator's IDs have 3 codes"),
        ({"per_device_train_batch_size": 32}, "8 prompts are fewer than the 16"),
    ],
)
def test_options_without_effect_are_refused(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        make_trainer(tmp_path, make_generator(), **settings)


def test_bad_rewards_and_broken_groups_are_refused(tmp_path: Path) -> None:
    generator = make_generator()
    with pytest.raises(UserError, match="this generator has generator"):
        make_trainer(tmp_path, generator, free=True)
    nowhere = {"nowhere": lambda prompts, rollouts: torch.full(rollouts.items_BG.shape, torch.nan)}
    with pytest.raises(UserError, match=r'reward "nowhere" must give a finite number .* 16 of them not finite'):
        make_trainer(tmp_path, generator, rewards=nowhere).train()
    with pytest.raises(UserError, match="not whole groups of 4"):
        make_trainer(tmp_path, generator)._generate([0] * 4 + [1] * 3)


def test_all_loss_types_of_trl_are_listed() -> None:
    (documented,) = [field.metadata["help"] for field in fields(GRPOConfig) if field.name == "loss_type"]
    supported = documented.split("Supported values are ")[1].split(". ")[0]
    assert {word.strip("',") for word in supported.split() if word.startswith("'")} == set(LOSS_TYPES)
