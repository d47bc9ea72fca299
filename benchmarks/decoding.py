"""Speed of constrained decoding: beside Hugging Face's `generate`, by the size of the trie, against plain matrix products.

    python -m benchmarks.decoding --out benchmarks/results/decoding.json

Three parts (`--only` picks some), each on random weights and random histories, since speed does not depend on quality:
- `beams`: our beam search and Hugging Face's with a prefix function over the same weights find the same items with the same
  scores (checked, or the run fails); they take turns. Both run the model's own modules, so both get the products of
  `onerec.model.layers.linear`, though whoever brings a model of `nn.Linear` to `generate` would not. Width 128, 12,101 items,
  histories of 50; once 3 x 256 codes, of which two mostly settle an item, so that our search need not step the third; and once
  256, 8 and 8 codes, where hardly anything settles.
- `trie`: what reading the trie takes of a search, for catalogues of 10,000 to 10,000,000 items, 3 x 8,192 codes.
- `share`: operations a second of a beam search (counted as in `onerec.model.counting`, of beams that were stepped) over those of
  nothing but matrix products of the model's widths, by the same library, measured in turns, width 512.

All use the threads that torch takes (OMP_NUM_THREADS if set). `--quick` measures small sizes; its figures are no claim, and the
file says so. Needs the extra `benchmarks`, which brings transformers.
"""

import sys
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.output.text import markdown_table, origin, ratio_table, repeats
from benchmarks.speed.parts import measure_parts
from benchmarks.speed.random_models import random_batch, random_generator
from benchmarks.speed.timing import in_turns, ratios, spread


def main() -> int:
    """Measure, print the table, write the file."""
    parts = {"beams": beams_part, "trie": trie_part, "share": share_part}
    return measure_parts("decoding", __doc__, parts, markdown, needed={"transformers": "transformers"})


def beams_part(quick: bool) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Users a second of both beam searches at several widths, and the ratio of each turn."""
    catalogues = {"": (256,) * 3, "_branching": (16, 8, 8) if quick else (256, 8, 8)}
    figures: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    for suffix, level_sizes in catalogues.items():
        for name, figure, found in _both_searches(level_sizes, quick):
            figures[name + suffix] = figure
            rows += found
    return figures, rows


def _both_searches(
    level_sizes: tuple[int, ...], quick: bool
) -> Iterator[tuple[str, dict[str, float], list[dict[str, Any]]]]:
    """For one catalogue and each beam width: the figure's name, the figure, and the rows."""
    import torch

    from benchmarks.speed.hugging_face_beams import HuggingFaceBeams
    from onerec.decode.beam_search import beam_search
    from onerec.model.bound_generator import bind

    items, users, repeats = (500, 4, 2) if quick else (12_101, 16, 5)
    model = random_generator(items, level_sizes, width=32 if quick else 128, item_head=False)
    rival, batch = HuggingFaceBeams(model).eval(), random_batch(items, users)
    for beam_width in (10,) if quick else (50, 512):
        with torch.inference_mode():
            ours = beam_search(bind(model, batch), model.trie, beam_width=beam_width)
            theirs = rival.beams(batch, beam_width)
            check_same(model, ours.items_BK, ours.log_probabilities_BK, *theirs)

            def search(beam_width: int = beam_width) -> object:
                return beam_search(bind(model, batch), model.trie, beam_width=beam_width)

            def generate(beam_width: int = beam_width) -> object:
                return rival.beams(batch, beam_width)

            seconds = in_turns({"ours": search, "hugging_face": generate}, repeats)
        codes = " x ".join(map(str, level_sizes))
        case = f"beam {beam_width}, {users} users at once, {items:,} items, {codes} codes"
        rows = [
            {"part": "beams", "case": case, "method": name, "users_per_second": spread([users / one for one in taken])}
            for name, taken in seconds.items()
        ]
        yield f"speedup_beam_{beam_width}", ratios(seconds["hugging_face"], seconds["ours"]), rows


def check_same(model: Any, items_BK: Any, scores_BK: Any, codes_BKL: Any, their_scores_BK: Any) -> None:
    """Both searches found the same items with scores equal to 1e-4, or AssertionError."""
    import torch

    alive_BK = scores_BK > -torch.inf
    codes = model.tokens.codes_NL[items_BK.clamp(min=0)]
    for user in range(len(items_BK)):
        ours = {
            tuple(row): score
            for row, score in zip(
                codes[user][alive_BK[user]].tolist(), scores_BK[user][alive_BK[user]].tolist(), strict=True
            )
        }
        count = len(ours)
        theirs = dict(
            zip(map(tuple, codes_BKL[user, :count].tolist()), their_scores_BK[user, :count].tolist(), strict=True)
        )
        # of two items whose scores differ by rounding either may be the last that fits
        last = min(ours.values())
        for code in ours.keys() ^ theirs.keys():
            if abs((ours | theirs)[code] - last) > 1e-4:
                raise AssertionError(f"user {user}: only one of the searches found {code}")
        for code in ours.keys() & theirs.keys():
            if abs(ours[code] - theirs[code]) > 1e-4:
                raise AssertionError(f"user {user}, {code}: scores {ours[code]} and {theirs[code]}")


def trie_part(quick: bool) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Seconds of a beam search and of the trie's share in it, by catalogue size."""
    import torch

    from onerec.decode.beam_search import beam_search
    from onerec.model.bound_generator import bind

    users, beam_width, repeats = (2, 10, 2) if quick else (8, 128, 5)
    sizes = (1_000, 10_000) if quick else (10_000, 100_000, 1_000_000, 10_000_000)
    figures: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    for items in sizes:
        model = random_generator(
            items, ((64,) * 3 if quick else (8192,) * 3), width=64 if quick else 256, item_head=False
        )
        batch = random_batch(min(items, 1000), users)
        with torch.inference_mode():

            def search(model: Any = model, batch: Any = batch) -> object:
                return beam_search(bind(model, batch), model.trie, beam_width=beam_width)

            steps = walked_states(model, batch, beam_width)

            def walk(model: Any = model, steps: Any = steps) -> object:
                return [model.trie.edges(states, level) for states, level in steps]

            seconds = in_turns({"search": search, "trie": walk}, repeats)
        share = ratios(seconds["trie"], seconds["search"])
        figures[f"trie_share_of_step_1e{len(str(items)) - 1}_items"] = share
        case = f"{items:,} items, beam {beam_width}, {users} users at once"
        rows.append(
            {
                "part": "trie",
                "case": case,
                "method": "search",
                "milliseconds": spread([1000 * one for one in seconds["search"]]),
            }
        )
        rows.append(
            {
                "part": "trie",
                "case": case,
                "method": "trie",
                "milliseconds": spread([1000 * one for one in seconds["trie"]]),
            }
        )
        del model
    return figures, rows


def walked_states(model: Any, batch: Any, beam_width: int) -> list[tuple[Any, int]]:
    """The trie states that a beam search asks for the edges of, with their level, in its order."""
    from onerec.decode.beam_search import beam_search
    from onerec.model.bound_generator import bind

    return arguments_of(
        type(model.trie), "edges", lambda: beam_search(bind(model, batch), model.trie, beam_width=beam_width)
    )


def stepped_beams(model: Any, batch: Any, beam_width: int) -> int:
    """How many beams the decoder steps in one search, all levels together; settled ones it does not."""
    from onerec.decode.beam_search import beam_search
    from onerec.model.bound_generator import bind
    from onerec.model.decoders.code_decoder import CodeDecoder

    calls = arguments_of(
        CodeDecoder, "step", lambda: beam_search(bind(model, batch), model.trie, beam_width=beam_width)
    )
    return sum(inputs_BKD.shape[0] * inputs_BKD.shape[1] for inputs_BKD, *_ in calls)


def arguments_of(owner: type, method: str, work: Callable[[], object]) -> list[tuple[Any, ...]]:
    """The positional arguments of all calls of a method during some work, which is not changed for being watched."""
    calls, original = [], getattr(owner, method)

    def noted(self: Any, *arguments: Any) -> Any:
        calls.append(arguments)
        return original(self, *arguments)

    setattr(owner, method, noted)
    try:
        work()
    finally:
        setattr(owner, method, original)
    return calls


def share_part(quick: bool) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Counted operations a second of encoding and beam search, over those of a matrix product."""
    import torch

    from onerec.decode.beam_search import beam_search
    from onerec.model.bound_generator import bind
    from onerec.model.counting import forward_flops
    from onerec.model.layers.linear import Linear

    width, users, beam_width, repeats = (64, 4, 20, 2) if quick else (512, 16, 128, 5)
    model = random_generator(12_101, (256,) * 3, width=width, item_head=False)
    batch = random_batch(12_101, users)
    flops = forward_flops(model, batch.items_BT.shape[1])
    per_level = sum(flops.per_target.values()) / model.levels
    with torch.inference_mode():
        counted = flops.total(batch.items_BT.numel(), 0) + per_level * stepped_beams(model, batch, beam_width)
    rows_of_product = users * beam_width
    rows_XD, product = torch.randn(rows_of_product, width), Linear(width, 4 * width, bias=False)
    with torch.inference_mode():
        seconds = in_turns(
            {
                "beam_search": lambda: beam_search(bind(model, batch), model.trie, beam_width=beam_width),
                "matrix_product": lambda: [product(rows_XD) for _ in range(10)],
            },
            repeats,
        )
    rates = {
        "beam_search": [counted / one for one in seconds["beam_search"]],
        "matrix_product": [10 * 2 * rows_XD.numel() * 4 * width / one for one in seconds["matrix_product"]],
    }
    case = (
        f"width {width}, {users} users at once, beam {beam_width}; products {rows_of_product:,} x {width} x {4 * width}"
    )
    rows = [
        {"part": "share", "case": case, "method": name, "gflops_per_second": spread([rate / 1e9 for rate in found])}
        for name, found in rates.items()
    ]
    return {"share_of_matrix_product_rate_beam_search": ratios(rates["beam_search"], rates["matrix_product"])}, rows


def markdown(results: dict[str, Any]) -> str:
    """The table and the ratios for terminal and docs."""
    units = {"users_per_second": "users a second", "milliseconds": "ms", "gflops_per_second": "GFLOP a second"}
    lines = []
    for row in results["rows"]:
        unit = next(name for name in units if name in row)
        lines.append((row["case"], f"`{row['method']}`", repeats(row[unit], ",.2f"), units[unit]))
    shown = markdown_table(("case", "what", "measured", "unit"), lines)
    return "\n\n".join([shown, ratio_table("ratio", results["figures"]), origin(results["run"])])


if __name__ == "__main__":
    sys.exit(main())
