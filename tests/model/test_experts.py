"""Mixture of experts: compared with a loop over tokens, and the balance of loads."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from onerec.model.layers.experts import ExpertsSpec, MixtureOfExperts
from onerec.train.expert_balance import ExpertBalance

WIDTH = 12


def make_experts(seed: int = 0, **settings: object) -> MixtureOfExperts:
    torch.manual_seed(seed)
    sizes = {"count": 5, "active": 2, "hidden_width": 7, "shared": False, "balance_step": 0.01, "dense_layers": 0}
    return MixtureOfExperts(WIDTH, ExpertsSpec(**{**sizes, **settings}))  # type: ignore[arg-type]


def one_token(layer: MixtureOfExperts, x_D: Tensor) -> Tensor:
    """The definition, for one token: choose by biased affinity, weigh by the plain one."""
    affinity_E = (layer.router.weight @ x_D).sigmoid()
    chosen = sorted(range(layer.spec.count), key=lambda e: -(affinity_E + layer.bias_E)[e].item())[: layer.spec.active]
    total = sum(affinity_E[e] for e in chosen) if len(chosen) > 1 else 1.0
    output_D = layer.shared(x_D) if layer.shared is not None else torch.zeros_like(x_D)
    for expert in chosen:
        gate_H, value_H = (x_D @ layer.expand_EDH[expert]).chunk(2)
        hidden_H = functional.silu(gate_H) * value_H
        output_D = output_D + affinity_E[expert] / total * (hidden_H @ layer.contract_EHD[expert])
    return output_D


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("active", [1, 2, 5])
def test_a_batch_equals_a_loop_over_its_tokens(active: int, shared: bool) -> None:
    """Outputs and all gradients, with biases that change the choice."""
    layer, reference = make_experts(active=active, shared=shared), make_experts(active=active, shared=shared)
    x = torch.randn(3, 4, WIDTH)
    for module in (layer, reference):
        module.bias_E.copy_(torch.linspace(-0.2, 0.2, 5))
    output, expected = layer(x), torch.stack([one_token(reference, x_D) for x_D in x.view(-1, WIDTH)]).view_as(x)
    assert (output - expected).abs().max() <= 1e-6
    (output**2).sum().backward()
    (expected**2).sum().backward()
    others = dict(reference.named_parameters())
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None
        found = others[name].grad if others[name].grad is not None else torch.zeros_like(parameter)
        assert (parameter.grad - found).abs().max() <= 1e-5, name  # sums over a dozen tokens in another order


def skewed_load(balance_step: float) -> float:
    """Busiest expert over the mean after 300 steps on tokens that all prefer the same experts."""
    layer = make_experts(count=8, balance_step=balance_step).train()
    with torch.no_grad():
        layer.router.weight[:, 0] = torch.linspace(-2, 2, 8)
    balance, draw = ExpertBalance(layer), torch.Generator().manual_seed(1)
    for step in range(300):
        if step == 250:
            balance.figures()  # forgets the warm-up
        x = torch.randn(256, WIDTH, generator=draw)
        x[:, 0] = 1.0
        with torch.no_grad():
            layer(x)
        balance.step()
    return balance.figures()["expert_load"]


def test_balancing_evens_out_a_skewed_router() -> None:
    assert skewed_load(balance_step=0.01) <= 1.5
    assert skewed_load(balance_step=0.0) >= 2.5  # with 8 experts and 2 active, 4 is the maximum


def test_tokens_that_do_not_count_are_no_load() -> None:
    layer, x = make_experts().train(), torch.randn(4, 3, WIDTH)
    counted = torch.rand(4, 3) < 0.5
    output = layer(x, counted)
    chosen, _ = layer.route(x[counted])
    assert layer.take_loads().tolist() == torch.bincount(chosen.flatten(), minlength=5).tolist()
    assert torch.equal(output, layer(x))
    assert layer.take_loads().sum() == 2 * 12


def test_evaluation_counts_nothing_and_moves_nothing() -> None:
    layer = make_experts().eval()
    layer(torch.randn(20, WIDTH))
    assert not layer.take_loads().any()
    ExpertBalance(layer).step()
    assert not layer.bias_E.any()
    without_experts = ExpertBalance(torch.nn.Linear(2, 2))
    without_experts.step()
    assert without_experts.figures() == {}
