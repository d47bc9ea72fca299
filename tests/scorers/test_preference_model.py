"""The preference model: nulls teach nothing, and padding and order change nothing."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from onerec.data.features import FeatureColumn, FeatureVocabulary
from onerec.data.impressions import NEXT_ITEM, ImpressionBatch
from onerec.errors import UserError
from onerec.scorers.preference_config import RewardConfig
from onerec.scorers.preference_model import PreferenceModel

ITEMS, TOLERANCE = 30, 1e-5
OBJECTIVES = ["click", "like", "hate"]
RATES = torch.tensor([0.5, 0.1, 0.01])


def make_vocabulary() -> FeatureVocabulary:
    codes_NGM = np.random.default_rng(0).integers(0, 3, (ITEMS, 1, 2)).astype(np.int32)
    event = [FeatureColumn(name=name, values=["0", "1"]) for name in OBJECTIVES]
    item, user = [FeatureColumn(name="kind", values=["a", "b"])], [FeatureColumn(name="town", values=["a", "b", "c"])]
    return FeatureVocabulary(event, item, user, codes_NGM)


def make_model(objectives: list[str] = OBJECTIVES, rates: torch.Tensor = RATES, **settings: object) -> PreferenceModel:
    torch.manual_seed(0)
    config = RewardConfig(**{"width": 16, "tower_width": 8, **settings})  # type: ignore[arg-type]
    rates = rates[: len(objectives)]
    vectors, popularity = torch.randn(ITEMS, 5), torch.arange(ITEMS).float()
    model = PreferenceModel(config, objectives, make_vocabulary(), vectors, rates, popularity)
    with torch.no_grad():  # heads start at zero, which would hide everything before them
        for parameter in (model.heads, model.fusion_head.weight, model.attention.nothing, model.attention.age_biases):
            parameter.normal_()
    return model.eval()


def make_batch(lengths: list[int], seed: int = 0, objectives: int = 3) -> ImpressionBatch:
    """Every event behind those before it, some labels unknown; what lies behind a row's length is noise."""
    torch.manual_seed(seed)
    rows, time = len(lengths), max(lengths)
    labels = (torch.rand(rows, time, objectives) < 0.4).float()
    labels[torch.rand(labels.shape) < 0.3] = torch.nan
    labels[torch.arange(time) >= torch.tensor(lengths)[:, None]] = torch.nan
    return ImpressionBatch(
        torch.randint(ITEMS, (rows, time)),
        torch.randint(3, (rows, time, 3)),
        torch.randint(4, (rows, 1)),
        torch.randint(ITEMS, (rows, time)),
        (torch.arange(time) + 1).expand(rows, -1),
        labels,
    )


def gradients(model: PreferenceModel, batch: ImpressionBatch) -> dict[str, torch.Tensor]:
    model.zero_grad()
    model(batch).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_a_null_label_teaches_nothing() -> None:
    """Where only clicks are known, gradients are those of a model that is asked for clicks alone; like has none."""
    model, batch = make_model(), make_batch([6, 6])
    clicks = torch.cat([batch.labels_BXO[..., :1], torch.full_like(batch.labels_BXO[..., 1:], torch.nan)], dim=-1)
    found = gradients(model, replace(batch, labels_BXO=clicks))
    assert found["heads"][0].abs().sum() > 0
    assert (found["heads"][1:] == 0).all()
    assert (found["head_biases"][1:] == 0).all()
    assert (found["fusion_head.weight"] == 0).all()  # it learns from impressions that show everything
    known = ~clicks[..., 0].isnan()
    model.zero_grad()
    logits = model.judge(batch, batch.candidates_BX, batch.counts_BX).objectives_BXO[..., 0][known]
    torch.nn.functional.binary_cross_entropy_with_logits(logits, clicks[..., 0][known], reduction="sum").backward()
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(found[name], parameter.grad, atol=TOLERANCE, rtol=TOLERANCE)


@torch.no_grad()
def test_losses_equal_a_loop_over_impressions() -> None:
    model, batch = make_model(), make_batch([5, 3])
    judged = model.judge(batch, batch.candidates_BX, batch.counts_BX)
    towers, fusion = np.zeros(3), 0.0
    weights = model.fusion_weights()
    for row, column in np.ndindex(*batch.candidates_BX.shape):
        labels = batch.labels_BXO[row, column]
        chances = judged.objectives_BXO[row, column].sigmoid()
        for place in range(3):
            if not labels[place].isnan():
                towers[place] -= float((chances[place] if labels[place] else 1 - chances[place]).log())
        if not labels.isnan().any():
            score = judged.score_BX[row, column].sigmoid()
            each = -labels * score.log() - (1 - labels) * (1 - score).log()
            fusion += float((weights * each).sum())
    found = model(batch)
    np.testing.assert_allclose(found[:3], towers, rtol=1e-4)
    assert float(found[3]) == pytest.approx(fusion, rel=1e-4)


def test_padding_and_the_order_of_rows_change_nothing() -> None:
    model, batch = make_model(), make_batch([6, 2, 4])
    wider = ImpressionBatch(
        *(
            torch.cat([part, torch.randint(1, 3, (3, 5, *part.shape[2:]))], dim=1)
            for part in (batch.items_BT, batch.features_BTF)
        ),
        batch.users_BU,
        torch.cat([batch.candidates_BX, torch.zeros(3, 5, dtype=torch.long)], dim=1),
        (torch.arange(11) + 1).expand(3, -1),
        torch.cat([batch.labels_BXO, torch.full((3, 5, 3), torch.nan)], dim=1),
    )
    order = torch.tensor([2, 0, 1])
    turned = ImpressionBatch(*(getattr(batch, name)[order] for name in ImpressionBatch.__dataclass_fields__))
    expected, expected_losses = gradients(model, batch), model(batch)
    for other in (wider, turned):
        torch.testing.assert_close(model(other), expected_losses, atol=1e-4, rtol=TOLERANCE)
        found = gradients(model, other)
        for name in expected:
            torch.testing.assert_close(found[name], expected[name], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_every_candidate_is_judged_independently_of_others_and_of_the_future() -> None:
    """Nothing at or behind an impression reaches its judgement, and neither do other candidates."""
    model, batch = make_model(), make_batch([6, 6])
    together = model.judge(batch, batch.candidates_BX, batch.counts_BX)
    for row in range(2):
        for count in range(7):
            alone = ImpressionBatch(
                batch.items_BT[row : row + 1, :count],
                batch.features_BTF[row : row + 1, :count],
                batch.users_BU[row : row + 1],
                batch.candidates_BX[row : row + 1, :1],
                torch.tensor([[count]]),
                batch.labels_BXO[:1, :1],
            )
            item = batch.candidates_BX[row : row + 1, max(count - 1, 0)][:, None]
            judged = model.judge(alone, item, alone.counts_BX)
            assert judged.score_BX.isfinite().all()  # also without any history
            for name in ("score_BX", "objectives_BXO") if count else ():
                found, expected = getattr(judged, name)[0, 0], getattr(together, name)[row, count - 1]
                torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_history_signals_and_user_are_read() -> None:
    model, batch = make_model(), make_batch([6])
    asked = (batch.candidates_BX, batch.counts_BX)
    before = model.judge(batch, *asked).score_BX
    for part, size in (("items_BT", ITEMS), ("features_BTF", 3), ("users_BU", 4)):
        other = replace(batch, **{part: (getattr(batch, part) + 1) % size})
        assert ((model.judge(other, *asked).score_BX - before).abs() > 1e-3).all()


def test_weights_are_scaled_by_how_much_labels_vary() -> None:
    model = make_model(weights=[1.0, 2.0, -0.1])
    spread = (RATES * (1 - RATES)).sqrt()
    expected = torch.tensor([1.0, 2.0, -0.1]) / spread
    torch.testing.assert_close(model.fusion_weights(), expected / expected.sum())
    assert float(model.fusion_weights().sum()) == pytest.approx(1)
    chances = torch.tensor([[0.3, 0.2, 0.1]])
    torch.testing.assert_close(model.weighted(chances), (chances * model.fusion_weights()).sum(dim=-1))
    # A label that never varies weighs nothing.
    model = make_model(rates=torch.tensor([0.5, 0.0, 1.0]))
    assert model.fusion_weights().tolist() == [1, 0, 0]
    assert model(make_batch([4])).isfinite().all()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"weights": [1.0]}, "give 3 weights"),
        ({"weights": [0.0, 0.0, 0.0]}, "more than 0"),
        ({"weights": [1.0, 0.0, -1.0]}, "more than 0"),
        ({"width": 15}, "multiple"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        make_model(**settings)


def test_the_fusion_begins_as_the_weighted_sum() -> None:
    model, batch = make_model(), make_batch([5])
    with torch.no_grad():
        model.fusion_head.weight.zero_()
        judged = model.judge(batch, batch.candidates_BX, batch.counts_BX)
    expected = model.weighted(judged.objectives_BXO.sigmoid())
    torch.testing.assert_close(judged.score_BX.sigmoid(), expected, atol=1e-5, rtol=1e-4)


def test_negatives_are_drawn_by_their_weights_and_are_never_the_item_itself() -> None:
    model, batch = make_model([NEXT_ITEM]), make_batch([8] * 50, objectives=1)
    batch = replace(batch, labels_BXO=torch.where(batch.labels_BXO.isnan(), torch.nan, 1.0))
    torch.manual_seed(1)
    candidates, counts, labels = model.with_negatives(batch, 20)
    assert candidates.shape == counts.shape == labels.shape[:2] == (50, 8 + 160)
    drawn = candidates[:, 8:].reshape(50, 8, 20)
    drawn_labels = labels[:, 8:, 0].reshape(50, 8, 20)
    own = batch.candidates_BX[..., None] == drawn
    unlabelled = batch.labels_BXO.isnan().expand(-1, -1, 20)
    assert torch.equal(drawn_labels.isnan(), own | unlabelled)
    assert (drawn_labels[~drawn_labels.isnan()] == 0).all()
    assert torch.equal(counts[:, 8:].reshape(50, 8, 20), batch.counts_BX[..., None].expand(-1, -1, 20))
    shares = torch.bincount(drawn.flatten(), minlength=ITEMS) / drawn.numel()
    expected = torch.arange(ITEMS) / torch.arange(ITEMS).sum()
    assert (shares - expected).abs().max() < 0.012  # five standard errors of the largest share
    assert shares[0] == 0


def test_a_model_on_disk_judges_the_same(tmp_path: Path) -> None:
    model, batch = make_model(weights=[1.0, 2.0, -0.1]), make_batch([5, 2])
    model.save(tmp_path / "model")
    names = {path.name for path in (tmp_path / "model").rglob("*") if path.is_file()}
    assert {"config.json", "model.safetensors"} <= names
    assert not [name for name in names if name.endswith((".pt", ".pkl", ".tmp"))]
    again = PreferenceModel.load(tmp_path / "model")
    assert again.objectives == OBJECTIVES
    asked = (batch, batch.candidates_BX, batch.counts_BX)
    assert torch.equal(again.judge(*asked).score_BX, model.judge(*asked).score_BX)
    assert torch.equal(again.judge(*asked).objectives_BXO, model.judge(*asked).objectives_BXO)
    assert torch.equal(again.negative_sums_N, model.negative_sums_N)


def test_a_damaged_model_is_refused_with_one_message(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="onerec reward"):
        PreferenceModel.load(tmp_path / "none")
    folder = tmp_path / "model"
    make_model().save(folder)
    tensors = load_file(folder / "model.safetensors")
    tensors["heads"] = tensors["heads"][:1]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(UserError, match="size mismatch for heads"):
        PreferenceModel.load(folder)
    for name, content in (("model.safetensors", "half of i"), ("config.json", "{}")):
        (folder / name).write_text(content)
        with pytest.raises(UserError, match="no readable reward model"):
            PreferenceModel.load(folder)


def test_a_dataset_without_features_works() -> None:
    """Items and their vectors are all there is."""
    vocabulary = FeatureVocabulary([], [], [], np.zeros((ITEMS, 0, 1), np.int32))
    model = PreferenceModel(
        RewardConfig(width=16), [NEXT_ITEM], vocabulary, torch.randn(ITEMS, 5), torch.tensor([0.2]), torch.ones(ITEMS)
    )
    nothing = torch.zeros(1, 4, 0, dtype=torch.long)
    bare = replace(make_batch([4], objectives=1), features_BTF=nothing, users_BU=nothing[:, 0])
    assert model(bare).isfinite().all()
    assert (model(bare) > 0).all()
