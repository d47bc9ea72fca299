"""Mixture of experts: each token uses a few of many feed-forward networks, which stay evenly busy without an extra loss."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from onerec.model.layers.attention import FeedForward


@dataclass(frozen=True)
class ExpertsSpec:
    """Sizes of the expert layers of a stack.

    Attributes:
        count: routed experts per layer.
        active: routed experts that each token uses.
        hidden_width: width inside one expert, after the gate.
        shared: whether there is one more expert, of the same width, that every token uses.
        balance_step: how far one optimizer step moves an expert's bias.
        dense_layers: number of first layers of the stack that stay plain feed-forward networks.
    """

    count: int
    active: int
    hidden_width: int
    shared: bool
    balance_step: float
    dense_layers: int


class MixtureOfExperts(nn.Module):
    """SwiGLU experts behind a top-k router, balanced without an auxiliary loss as in DeepSeek-V3 (arXiv 2412.19437).

    A token's affinity to an expert is the sigmoid of a linear score. The router chooses the k experts with the highest affinity
    plus bias. The gates are the chosen affinities without the bias, divided by their sum. The biases are not parameters:
    `balance` lowers the bias of experts with more than the mean load and raises the others. OneRec (arXiv 2506.13695, decoder
    section) uses the same layer. There is one deviation: with a single active expert the gate is the plain affinity. Divided by
    itself it would always be 1, and the router would learn nothing.

    Tokens are sorted by expert, and each expert multiplies all its rows at once. No expert has a capacity and no token is
    dropped, so a token's output does not depend on its batch. The order of all sums is fixed, on GPUs too.
    """

    bias_E: Tensor

    def __init__(self, width: int, spec: ExpertsSpec) -> None:
        super().__init__()
        self.spec = spec
        self.router = nn.Linear(width, spec.count, bias=False)
        self.expand_EDH = nn.Parameter(torch.empty(spec.count, width, 2 * spec.hidden_width))
        self.contract_EHD = nn.Parameter(torch.empty(spec.count, spec.hidden_width, width))
        # The same start as `nn.Linear` gives the matrices of a plain feed-forward network.
        nn.init.uniform_(self.expand_EDH, -(width**-0.5), width**-0.5)
        nn.init.uniform_(self.contract_EHD, -(spec.hidden_width**-0.5), spec.hidden_width**-0.5)
        self.shared = FeedForward(width, spec.hidden_width) if spec.shared else None
        self.register_buffer("bias_E", torch.zeros(spec.count))
        # Not a buffer: buffers are copied from the first process to all others before a forward pass; loads differ by process.
        self.loads_E = torch.zeros(spec.count)

    def forward(self, x: Tensor, counted: Tensor | None = None) -> Tensor:
        """Outputs `[..., D]` for tokens `[..., D]`. In training, also adds to the loads of the chosen experts.

        Args:
            counted: boolean `[...]`, which tokens count as load; padding and positions without a target do not. None: all.
        """
        x_XD = x.flatten(0, -2)
        chosen_XK, gates_XK = self.route(x_XD)
        if self.training:
            self._count(chosen_XK if counted is None else chosen_XK[counted.flatten()])
        output_XD = self._experts(x_XD, chosen_XK, gates_XK)
        if self.shared is not None:
            output_XD = output_XD + self.shared(x_XD)
        return output_XD.view_as(x)

    def route(self, x_XD: Tensor) -> tuple[Tensor, Tensor]:
        """Chosen experts and their gates, each `[X, k]`. Always in float32, because close scores decide the choice."""
        with torch.autocast(x_XD.device.type, enabled=False):
            affinity_XE = functional.linear(x_XD.float(), self.router.weight.float()).sigmoid()
        chosen_XK = (affinity_XE.detach() + self.bias_E).topk(self.spec.active, dim=-1).indices
        gates_XK = affinity_XE.gather(-1, chosen_XK)
        return chosen_XK, gates_XK / gates_XK.sum(dim=-1, keepdim=True) if self.spec.active > 1 else gates_XK

    @torch.no_grad()
    def balance(self, loads_E: Tensor) -> None:
        """Move every bias one step towards an even load; an expert with exactly the mean load keeps its bias."""
        loads_E = loads_E.to(self.bias_E)
        self.bias_E += self.spec.balance_step * (loads_E.mean() - loads_E).sign()

    def take_loads(self) -> Tensor:
        """Tokens per expert since the last call, `[E]`, in this process. Counting starts again from 0."""
        loads_E, self.loads_E = self.loads_E, torch.zeros_like(self.loads_E)
        return loads_E

    def _count(self, chosen_XK: Tensor) -> None:
        ones = torch.ones(chosen_XK.numel(), device=chosen_XK.device)
        self.loads_E = self.loads_E.to(ones.device).scatter_add(0, chosen_XK.flatten(), ones)

    def _experts(self, x_XD: Tensor, chosen_XK: Tensor, gates_XK: Tensor) -> Tensor:
        """Sum over a token's experts of gate x output, `[X, D]`."""
        active = self.spec.active
        experts, order = chosen_XK.flatten().sort(stable=True)
        rows_per_expert = torch.bincount(experts, minlength=self.spec.count).tolist()
        outputs = []
        sorted_rows = x_XD[order // active].split(rows_per_expert)
        for rows_RD, expand_DH, contract_HD in zip(sorted_rows, self.expand_EDH, self.contract_EHD, strict=True):
            gate_RH, value_RH = (rows_RD @ expand_DH).chunk(2, dim=-1)
            outputs.append((functional.silu(gate_RH) * value_RH) @ contract_HD)
        # Restore the order by reading. Scattered additions would have no fixed order on a GPU.
        back = torch.empty_like(order)
        back[order] = torch.arange(len(order), device=order.device)
        outputs_XKD = torch.cat(outputs)[back].unflatten(0, (-1, active))
        return (outputs_XKD * gates_XK[..., None]).sum(dim=1)
