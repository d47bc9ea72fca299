"""`Linear` uses oneDNN in inference only, and its products equal torch's own up to rounding."""

import pytest
import torch
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

from onerec.model.layers.linear import LEAST_WORK, Linear

WIDTH, OUTPUTS = 96, 160
ROWS = -(-LEAST_WORK // (WIDTH * OUTPUTS))
needs_onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch comes without oneDNN")


def made(bias: bool = True) -> Linear:
    torch.manual_seed(0)
    return Linear(WIDTH, OUTPUTS, bias=bias)


def uses_onednn(layer: Linear, x: torch.Tensor) -> bool:
    with profile(activities=[ProfilerActivity.CPU]) as watched:
        layer(x)
    return any("mkldnn" in event.key for event in watched.key_averages())


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "x",
    [
        torch.randn(ROWS, WIDTH),
        torch.randn(2, ROWS, WIDTH),
        torch.randn(ROWS, 3, WIDTH)[:, 1],  # as the states of one level
        torch.randn(WIDTH, ROWS).T,
        torch.randn(ROWS, WIDTH).expand(2, -1, -1),
    ],
    ids=["rows", "batch", "slice", "transposed", "expanded"],
)
def test_products_are_those_of_torch(x: torch.Tensor, bias: bool) -> None:
    layer = made(bias)
    expected = functional.linear(x.double(), layer.weight.double(), None if layer.bias is None else layer.bias.double())
    with torch.no_grad():
        found = layer(x)
    assert found.shape == expected.shape
    # Float32 sums of 96 products of numbers around 1 and 0.1.
    assert (found - expected).abs().max() <= 1e-5


@needs_onednn
def test_onednn_computes_large_products_of_inference_and_no_others() -> None:
    layer, enough, few = made(), torch.randn(ROWS, WIDTH), torch.randn(ROWS // 2, WIDTH)
    with torch.inference_mode():
        assert uses_onednn(layer, enough)
        assert not uses_onednn(layer, few)
        with torch.autocast("cpu", torch.bfloat16):
            assert layer(enough).dtype == torch.bfloat16
    assert not uses_onednn(layer, enough)


def test_gradients_are_unchanged() -> None:
    layer, x = made(), torch.randn(ROWS, WIDTH, requires_grad=True)
    layer(x).square().sum().backward()
    assert x.grad is not None and layer.weight.grad is not None
    output = functional.linear(x, layer.weight, layer.bias)
    gradients = torch.autograd.grad(output.square().sum(), [x, layer.weight])
    assert torch.equal(gradients[0], x.grad) and torch.equal(gradients[1], layer.weight.grad)


def test_no_rows_give_no_rows() -> None:
    with torch.no_grad():
        assert made()(torch.empty(0, WIDTH)).shape == (0, OUTPUTS)


@needs_onednn
@torch.no_grad()
def test_a_changed_weight_is_read_at_once() -> None:
    """Nothing is packed or kept between calls."""
    layer, x = made(bias=False), torch.randn(ROWS, WIDTH)
    before = layer(x)
    layer.weight.data.mul_(2)
    assert torch.equal(layer(x), 2 * before)
