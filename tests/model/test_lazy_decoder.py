"""The lazy decoder follows the equations of the report. tests/model/test_counting.py counts what its layers project."""

import pytest
import torch
from torch.nn import functional

from onerec.model.decoders.lazy_decoder import ContextProcessor, LazyCrossAttention, LazyDecoder
from onerec.model.layers.attention import rotary_angles, rotate
from onerec.model.layers.layer_sizes import LayerSizes


def make_decoder(layers: int, sets: int, split: int = 1, groups: int = 2) -> LazyDecoder:
    torch.manual_seed(0)
    made = {"key_value_layers": sets, "key_value_split": split, "key_value_groups": groups}
    return LazyDecoder(layers, LayerSizes(16, 4, 24, 0.0), (5, 5), **made).eval()


@pytest.mark.parametrize("split", [1, 2])
def test_keys_and_values_are_normed_chunks_of_one_projection(split: int) -> None:
    torch.manual_seed(0)
    processor, states = ContextProcessor(16, sets=3, split=split, groups=2, head_width=4), torch.randn(2, 5, 16)
    chunks = processor.project(states).split(8, dim=-1)
    assert len(chunks) == 3 * split
    angles = rotary_angles(torch.arange(5), 4)
    for number, (key, value) in enumerate(processor(states, torch.arange(5))):
        expected = [functional.rms_norm(chunk, (8,)).view(2, 5, 2, 4).transpose(1, 2) for chunk in chunks]
        assert (key - rotate(expected[number * split], angles)).abs().max() <= 1e-5
        assert (value - expected[number * split + split - 1]).abs().max() <= 1e-5


@pytest.mark.parametrize(
    ("layers", "sets", "expected"), [(4, 1, [0] * 4), (4, 2, [0, 0, 1, 1]), (5, 3, [0, 0, 1, 1, 2])]
)
def test_layers_share_sets_in_their_order(layers: int, sets: int, expected: list[int]) -> None:
    decoder, states = make_decoder(layers, sets), torch.randn(1, 3, 16)
    own = decoder.context_processor(states, torch.arange(states.shape[1]))
    read = decoder.read_context(states).keys_values
    assert [int(torch.stack([(key - other).abs().sum() for other, _ in own]).argmin()) for key, _ in read] == expected
    assert len({key.data_ptr() for key, _ in read}) == sets  # shared, not copied


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_heads_of_a_group_share_keys(groups: int) -> None:
    """Folding heads into queries equals repeating the keys for every head."""
    torch.manual_seed(0)
    attention, x = LazyCrossAttention(16, 4, groups, 0.0).eval(), torch.randn(2, 3, 16)
    key, value = torch.randn(2, groups, 5, 4), torch.randn(2, groups, 5, 4)
    angles, mask = rotary_angles(torch.arange(3), 4), torch.rand(2, 1, 3, 5) < 0.7
    mask[..., 0] = True
    query = rotate(attention.project_query(x).view(2, 3, 4, 4).transpose(1, 2), angles)
    repeated = [tensor.repeat_interleave(4 // groups, dim=1) for tensor in (key, value)]
    expected = functional.scaled_dot_product_attention(query, *repeated, attn_mask=mask)
    expected = attention.project_out(expected.transpose(1, 2).flatten(2))
    assert (attention(x, angles, (key, value), mask) - expected).abs().max() <= 1e-6
