"""Products with weights, by the library that does them fastest.

torch hands float32 products on a CPU to MKL, whose kernels for AMD's processors stop at AVX2; oneDNN, which torch ships too, uses
AVX-512 wherever it is: more than twice as fast on such a processor. torch asks it for other precisions only, hence the call by
name. It cannot be differentiated, so what is trained goes the usual way.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

# Multiply-adds from which oneDNN wins although a call of it costs ten microseconds more.
LEAST_WORK = 2**20


class Linear(nn.Linear):
    """`nn.Linear`, computed by oneDNN where nothing is differentiated: same parameters, same result up to rounding."""

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
