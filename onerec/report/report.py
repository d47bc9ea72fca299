"""The page a run leaves behind: `results.json` and the training logs become one self-contained `report.html`.

Nothing is measured here but the bytes of the models' folders. What a run did not record is left out of the page.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from onerec.errors import UserError
from onerec.files import write_text
from onerec.report import sections
from onerec.report.codebook import level_panels
from onerec.report.comparison import bytes_on_disk, figure_chart, main_table, paired_section
from onerec.report.models import Comparison, read_models
from onerec.report.page import render_template
from onerec.report.studies import ablation_section, scaling_section
from onerec.report.values import as_mapping
from onerec.report.verdicts import verdicts
from onerec.run.artefact import STAGE_FILE
from onerec.run.models import P_SCORE

STUDIES = ("ablations", "scaling")  # files of a run folder that benchmarks write with --run
Log = list[dict[str, Any]]


def write_report(folder: Path) -> Path:
    """Write `folder/report.html` from `folder/results.json` and the training logs beside it; return its path.

    Logs are read from `generator/metrics.jsonl`, `baselines/<model>/metrics.jsonl` and `aligned_<objective>/metrics.jsonl`
    where they exist, and what benchmarks left there from `ablations.json` and `scaling.json`. The page replaces an older one
    only when it is complete. Raises UserError when one of the JSON files cannot be read.
    """
    results = read_results(folder / "results.json")
    studies = {name: read_results(path) for name in STUDIES if (path := folder / f"{name}.json").is_file()}
    comparison = read_models(results)
    models = comparison.models
    judged = sorted(models, key=lambda model: -(score.value if (score := model.interval(P_SCORE)) else 0.0))
    page = render_template(
        "report.html.jinja",
        results=results,
        models=models,
        generator=comparison.generator,
        verdicts=verdicts(comparison),
        comparison=main_table(models, "test"),
        validation=main_table(models, "valid"),
        paired=paired_section(comparison),
        sizes={model.name: bytes_on_disk(model, comparison, folder) for model in models},
        training=sections.training_section(models, read_training_logs(folder, comparison)),
        judged=figure_chart(judged, "test", P_SCORE),
        alignments=sections.alignment_section(read_alignment_logs(folder)),
        breakdowns=sections.breakdown_section(models),
        ablations=ablation_section(studies.get("ablations", {})),
        scaling=scaling_section(studies.get("scaling", {})),
        levels=level_panels(as_mapping(results.get("semantic_ids"))),
    )
    target = folder / "report.html"
    write_text(target, page)
    return target


def read_results(path: Path) -> dict[str, Any]:
    """The content of `results.json` or of a study beside it; UserError names the file, and the line where the JSON breaks."""
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); make it again") from None
    if not isinstance(results, dict):
        raise UserError(f"{path} holds a {type(results).__name__}, not a JSON object; make it again")
    return results


def read_training_logs(folder: Path, comparison: Comparison) -> dict[str, Log]:
    """Lines of every training log in a run folder, by model name. Models without a log are absent."""
    paths = {path.parent.name: path for path in sorted(folder.glob("baselines/*/metrics.jsonl"))}
    if comparison.generator:
        paths[comparison.generator.name] = folder / "generator" / "metrics.jsonl"
    return {name: list(_json_lines(path)) for name, path in paths.items() if path.is_file()}


def read_alignment_logs(folder: Path) -> dict[str, Log]:
    """Lines of the log of every finished alignment of the run's generator as it now is, by objective."""
    generator = _object_in(folder / "generator" / STAGE_FILE).get("key")
    logs = {}
    for path in sorted(folder.glob("aligned_*/metrics.jsonl")):
        if generator and _object_in(path.parent / "training.json").get("generator") == generator:
            logs[path.parent.name.removeprefix("aligned_")] = list(_json_lines(path))
    return logs


def _object_in(path: Path) -> dict[str, Any]:
    """The JSON object in a small file; empty where there is none."""
    try:
        return as_mapping(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            # A run that was killed while writing leaves half a line; the curve does without it.
            continue
        if isinstance(entry, dict):
            yield entry
