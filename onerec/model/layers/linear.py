"""Linear layers that use the fastest library for each product.

On a CPU, torch computes float32 products with MKL, whose kernels for AMD processors stop at AVX2. oneDNN ships with torch too
and uses AVX-512 wherever it exists, which is more than twice as fast on such a processor. torch calls oneDNN for other
precisions only, so we call it by name. It has no gradient, so training takes torch's usual path.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

# oneDNN wins from this many multiply-adds on, although each call costs ten microseconds more.
LEAST_WORK = 2**20


class Linear(nn.Linear):
    """`nn.Linear`, computed by oneDNN where no gradient is needed. Same parameters, and the same result up to rounding."""

    def forward(self, input: Tensor) -> Tensor:
        """`input @ weight.T + bias`, for `input` `[..., D]`."""
        by_name = (
            input.numel() * self.out_features >= LEAST_WORK
            and input.device.type == "cpu"
            and input.dtype == self.weight.dtype == torch.float32
            and torch.backends.mkldnn.is_available()
            and not torch.is_grad_enabled()
            and not torch.is_autocast_enabled("cpu")
        )
        if not by_name:
            return functional.linear(input, self.weight, self.bias)
        product: Tensor = torch.ops.mkldnn._linear_pointwise(input, self.weight, self.bias, "none", [], "")
        return product
