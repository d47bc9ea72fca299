"""Counts of parameters and operations, against the tensors themselves and torch's own counter."""

import pytest
import torch
from test_generator import KINDS, every_kind, make_batch, make_generator
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from onerec.model.counting import count_parameters, forward_flops


@every_kind
@torch.no_grad()
def test_operations_are_those_that_torch_counts(settings: dict[str, object]) -> None:
    """With the plain attention kernel: torch's counter does not know the fused one of the CPU."""
    model, rows, history = make_generator(**settings), 3, 7
    batch = make_batch([list(range(history))] * rows)
    targets = rows * (1 if model.last_positions_only else history)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(batch)
    assert forward_flops(model, history).total(rows * history, targets) == counter.get_total_flops()


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
