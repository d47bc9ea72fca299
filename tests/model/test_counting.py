"""Counts of parameters and operations, compared with the tensors and with torch's own counter."""

import pytest
from generator_cases import KINDS, every_kind, make_batch, make_generator
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from onerec.model.counting import batch_flops, count_parameters, forward_flops, size_without_tables


def counted_by_torch(counter: FlopCounterMode, ends: tuple[str, ...]) -> int:
    """Operations of the modules whose names have one of these endings."""
    found = {name: sum(flops.values()) for name, flops in counter.get_flop_counts().items()}
    return sum(flops for name, flops in found.items() if name.endswith(ends))


@every_kind
@pytest.mark.parametrize("item_loss", [0.0, 0.5])
def test_a_training_step_costs_three_forward_passes_and_every_part_its_share(
    settings: dict[str, object], item_loss: float
) -> None:
    """With rows of different lengths: the decoder runs over padding too, heads and item scorer only over targets.

    torch's counter does not know the fused attention kernel of CPUs, so this runs the plain one.
    """
    model = make_generator(**{**settings, "dropout": 0.0, "item_loss": item_loss}).train()
    batch = make_batch([[1, 2, 3, 4, 5], [6, 7], [8]])
    counted = batch_flops(model, batch)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False, depth=None) as forward:
        loss = model(batch).sum()
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as backward:
        loss.backward()
    assert counted == {
        "item_tokens": counted_by_torch(forward, ("Generator.tokens",)),
        "encoder": counted_by_torch(forward, ("Generator.encoder",)),
        "context": counted_by_torch(forward, ("project_context", "context_processor")),
        "prefix": 0,
        "start": counted_by_torch(forward, ("last_state",)),
        "decoder": counted_by_torch(forward, ("Generator.decoder",)),
        "heads": counted_by_torch(forward, tuple(f"decoder.heads.{level}" for level in range(model.levels))),
        "item_scorer": counted["item_scorer"],  # no module does its products with the catalogue
    }
    assert sum(counted.values()) == forward.get_total_flops()
    assert backward.get_total_flops() == 2 * sum(counted.values())


@every_kind
def test_every_parameter_is_in_one_part(settings: dict[str, object]) -> None:
    model = make_generator(**settings)
    counted = count_parameters(model)
    assert counted.total == sum(parameter.numel() for parameter in model.parameters())
    assert (counted.parts["encoder"] > model.config.width) == bool(model.config.encoder_layers)
    assert (counted.inactive > 0) == bool(model.config.experts)


def test_inactive_parameters_are_those_of_experts_not_chosen() -> None:
    model = make_generator(experts=4, experts_active=3, expert_hidden_width=8, decoder_layers=2, dense_layers=1)
    counted = count_parameters(model)
    assert counted.inactive == 3 * 24 * 8  # one of four experts, in one layer
    assert counted.active == counted.total - counted.inactive


def test_tables_are_no_part_of_the_size() -> None:
    """Embeddings and item vectors grow with the catalogue, so they do not count. Of the routed experts, active ones count."""
    plain = make_generator(own_embedding=False, item_head=False)
    with_tables = make_generator(own_embedding=True, item_head=True)
    joining = 24 * 24  # the own embedding is one more block of the tokens' projection
    assert size_without_tables(with_tables) == size_without_tables(plain) + joining
    counted = count_parameters(with_tables)
    assert counted.tables == counted.parts["embeddings"] + len(with_tables.semantic_ids.codes_NL) * 24
    experts = make_generator(experts=4, experts_active=3, expert_hidden_width=8, item_head=False)
    assert size_without_tables(experts) == count_parameters(experts).active - count_parameters(experts).tables
    assert size_without_tables(nn.Sequential(nn.Embedding(50, 8), nn.Linear(8, 3))) == 27


def test_a_lazy_context_costs_the_same_at_any_depth() -> None:
    shallow, deep = (
        forward_flops(make_generator(**KINDS["lazy"], decoder_layers=layers), 50).per_context_token for layers in (1, 4)
    )
    assert shallow == deep
    shallow, deep = (forward_flops(make_generator(decoder_layers=layers), 50).per_context_token for layers in (1, 4))
    assert deep["context"] == 4 * shallow["context"]


@pytest.mark.parametrize("decoder", ["encoder_decoder", "lazy"])
def test_layer_parameters_of_the_reports(decoder: str) -> None:
    """A lazy layer with a feed-forward network of 4 x width has 18 width^2 parameters, as OneRec-V2's table of sizes implies."""
    one, two = (
        count_parameters(make_generator(decoder=decoder, hidden_width=96, decoder_layers=layers)).parts["decoder"]
        for layers in (1, 2)
    )
    assert two - one == 18 * 24**2 + 3 * 24  # and three norms
