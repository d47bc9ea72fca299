"""Measurements: a command here prints every figure that README and docs quote, and `results/` keeps it.

A file at the top is a command, `python -m benchmarks.NAME --out FILE`, and so is the folder `alignment`. `--help` says what it
does; `--quick` makes a short run, and the file says so.

- Complete runs: `recall`, `seeds` (several of them in one table), `selection`, `reward_model`.
- Studies of generators: `generator_ablations`, `decoders`, `scaling`, `alignment`.
- Studies of semantic IDs: `tokenizer_quality`, `tokenizers_downstream`; and `append_items`.
- Speed and memory: `tokenizer`, `decoding`, `training`, `lifelong`, `streaming`.
- Pages: `result_tables` writes the tables of README and docs, `alignment.charts` the charts of docs/figures.
- Checks: `compare_runs` says whether two runs are equal to the last bit.

The other folders hold what commands share. `study` is the one frame of all studies: rows x seeds -> cells -> a table. There,
`study/runs.py` is where most of them touch the pipeline. `generators` and `semantic_ids` hold what a cell measures, `speed` holds
clocks and rivals, and `output` the shape of results files and the formats of figures.

To add a benchmark, write a file with a `main` that takes `--out` and a `markdown(results)` that makes its table. `result_tables`
finds it by the name in its results file.
"""
