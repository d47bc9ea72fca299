"""Speed of training: targets a second beside a T5 that sees one target per pass, and the share of the machine's own rate.

    python -m benchmarks.training --out benchmarks/results/training.json

Two parts (`--only` picks one), on random weights and random histories of 50, since speed does not depend on quality. A step is
forward, backward and AdamW, with dropout as in training.
- `t5`: our encoder-decoder, with one token per item and every position a target, against Hugging Face's T5 as TIGER and its
  successors train it: L tokens per item, one target per window. Both are of about the same size (the file has both counts).
- `share`: operations a second of a training step (three times the forward pass as counted in `onerec.model.counting`) over
  those of plain matrix products, measured in turns, width 512.

`--quick` measures small sizes; its figures are no claim, and the file says so.
Needs the extra `benchmarks`, which brings transformers.
"""

import sys
from collections.abc import Callable
from typing import Any

from benchmarks.output.text import markdown_table, origin, ratio_table, repeats
from benchmarks.speed.parts import measure_parts
from benchmarks.speed.random_models import random_generator
from benchmarks.speed.timing import in_turns, ratios, spread

HISTORY = 50
NEEDED = {"transformers": "transformers"}


def main() -> int:
    """Measure, print the table, write the file."""
    return measure_parts("training", __doc__, {"t5": t5_part, "share": share_part}, markdown, needed=NEEDED)


def t5_part(quick: bool) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Targets a second of both, and the ratio of each turn."""
    from onerec.model.counting import count_parameters

    windows, repeats, width = (4, 2, 64) if quick else (32, 5, 128)
    model = random_generator(12_101, (256,) * 3, width=width, item_head=False).train()
    rival = t5_like(model)
    seconds = in_turns({"ours": our_step(model, windows), "t5": t5_step(rival, windows, model.levels)}, repeats)
    targets = {"ours": windows * (HISTORY - 1), "t5": windows}
    parameters = {"ours": count_parameters(model).total, "t5": sum(one.numel() for one in rival.parameters())}
    rates = {name: [targets[name] / one for one in taken] for name, taken in seconds.items()}
    case = f"{windows} windows of {HISTORY} items a step"
    rows = [
        {
            "part": "t5",
            "case": case,
            "method": name,
            "parameters": parameters[name],
            "targets_per_second": spread(found),
        }
        for name, found in rates.items()
    ]
    return {"training_speedup_vs_hugging_face_t5": ratios(rates["ours"], rates["t5"])}, rows


def share_part(quick: bool) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Counted operations a second of a step, over those of a matrix product."""
    import torch

    from onerec.model.counting import forward_flops

    windows, repeats, width = (4, 2, 64) if quick else (16, 5, 512)
    model = random_generator(12_101, (256,) * 3, width=width, item_head=False).train()
    flops = forward_flops(model, HISTORY - 1)
    tokens = windows * (HISTORY - 1)
    counted = 3 * flops.total(tokens, tokens)
    left, right = torch.randn(tokens * model.levels, width), torch.randn(width, 4 * width)
    step = our_step(model, windows)

    def products() -> None:
        with torch.no_grad():
            for _ in range(10):
                left @ right

    seconds = in_turns({"training_step": step, "matrix_product": products}, repeats)
    operations = {"training_step": counted, "matrix_product": 10 * 2 * left.numel() * right.shape[1]}
    rates = {name: [operations[name] / one for one in taken] for name, taken in seconds.items()}
    case = f"width {width}, {windows} windows of {HISTORY}; products {len(left):,} x {width} x {4 * width}"
    rows = [
        {"part": "share", "case": case, "method": name, "gflops_per_second": spread([rate / 1e9 for rate in found])}
        for name, found in rates.items()
    ]
    return {"share_of_matrix_product_rate_training": ratios(rates["training_step"], rates["matrix_product"])}, rows


def our_step(model: Any, windows: int) -> Callable[[], None]:
    """One optimizer step on full windows, where every position but the last has a target."""
    import torch

    from onerec.data.windows import Batch

    items_BT = torch.randint(len(model.tokens.codes_NL), (windows, HISTORY), generator=torch.Generator().manual_seed(0))
    inputs_BT, targets_BT = items_BT[:, :-1].contiguous(), items_BT[:, 1:].contiguous()
    lengths_B = torch.full((windows,), HISTORY - 1)
    batch = Batch(inputs_BT, targets_BT, torch.ones_like(inputs_BT, dtype=torch.bool), lengths_B)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        (model(batch).sum() / targets_BT.numel()).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def t5_like(model: Any) -> Any:
    """A T5 over the same codes with equal layers, heads and width, and as many parameters by the size of its feed-forward."""
    from transformers import T5Config, T5ForConditionalGeneration

    from onerec.model.counting import count_parameters

    config = model.config
    wanted = count_parameters(model).total

    def make(hidden: int) -> Any:
        return T5ForConditionalGeneration(
            T5Config(
                vocab_size=sum(model.trie.level_sizes) + 1,
                d_model=config.width,
                d_kv=config.width // config.heads,
                d_ff=hidden,
                num_layers=config.encoder_layers,
                num_decoder_layers=config.decoder_layers,
                num_heads=config.heads,
                dropout_rate=config.dropout,
                feed_forward_proj="gated-gelu",
                decoder_start_token_id=sum(model.trie.level_sizes),
                pad_token_id=sum(model.trie.level_sizes),
            )
        )

    smallest = sum(one.numel() for one in make(1).parameters())
    per_hidden = sum(one.numel() for one in make(2).parameters()) - smallest
    return make(max(1, 1 + round((wanted - smallest) / per_hidden))).train()


def t5_step(model: Any, windows: int, levels: int) -> Callable[[], None]:
    """One optimizer step on full windows: it reads the codes of all items but the last, and predicts the codes of the last."""
    import torch

    draw = torch.Generator().manual_seed(0)
    codes = model.config.vocab_size - 1
    inputs = torch.randint(codes, (windows, (HISTORY - 1) * levels), generator=draw)
    labels = torch.randint(codes, (windows, levels), generator=draw)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        model(input_ids=inputs, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def markdown(results: dict[str, Any]) -> str:
    """The table and the ratios for terminal and docs."""
    units = {"targets_per_second": "targets a second", "gflops_per_second": "GFLOP a second"}
    lines = []
    for row in results["rows"]:
        unit = next(name for name in units if name in row)
        parameters = f"{row['parameters']:,}" if "parameters" in row else ""
        lines.append((row["case"], f"`{row['method']}`", parameters, repeats(row[unit], ",.0f"), units[unit]))
    shown = markdown_table(("case", "what", "parameters", "measured", "unit"), lines)
    return "\n\n".join([shown, ratio_table("ratio", results["figures"]), origin(results["run"])])


if __name__ == "__main__":
    sys.exit(main())
