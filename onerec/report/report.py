"""The page a run leaves behind: `results.json` and the training logs become one self-contained `report.html`.

Nothing is measured here but the bytes of the models' folders. What a run did not record is left out of the page.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from onerec.errors import UserError
from onerec.files import write_text
from onerec.report import sections
from onerec.report.ablations import ablation_section
from onerec.report.comparison import cost_rows, main_table, paired_section
from onerec.report.models import Comparison, read_models
from onerec.report.page import render_template
from onerec.report.rewards import rewards_section
from onerec.report.scaling import scaling_section
from onerec.report.values import as_mapping, as_pairs, as_sequence, date_in_words
from onerec.report.verdicts import verdicts
from onerec.run.artefact import STAGE_FILE

STUDIES = ("ablations", "scaling")  # files of a run folder that benchmarks write with --run
Log = list[dict[str, Any]]


def write_report(folder: Path) -> Path:
    """Write `folder/report.html` from `folder/results.json` and the training logs beside it; return its path.

    Logs are read from `generator/metrics.jsonl`, `baselines/<model>/metrics.jsonl` and `aligned_<objective>/metrics.jsonl`
    where they exist, and what benchmarks left there from `ablations.json` and `scaling.json`. The page replaces an older one
    only when it is complete. Raises UserError when `results.json` is missing, or one of these files is no JSON object.
    """
    results = read_results(folder / "results.json")
    run, comparison = as_mapping(results.get("run")), read_models(results)
    studies = {name: read_results(path) for name in STUDIES if (path := folder / f"{name}.json").is_file()}
    test, validation = (main_table(comparison.models, part) for part in ("test", "valid"))
    page = render_template(
        "report.html.jinja",
        run=run,
        started=date_in_words(run.get("started")),
        machine=as_pairs(run.get("machine")),
        versions=as_pairs(run.get("versions")),
        config=yaml.safe_dump(run["config"], sort_keys=False, allow_unicode=True, width=100) if "config" in run else "",
        dataset=as_mapping(results.get("dataset")),
        protocol=as_mapping(results.get("protocol")),
        models=comparison.models,
        series=[(model.label, model.style) for model in comparison.models],
        generator=comparison.generator,
        verdicts=verdicts(comparison),
        comparison=test or validation,
        validation=validation if test else None,
        paired=paired_section(comparison),
        costs=cost_rows(comparison.models, folder),
        selection=sections.selection_section(comparison.models),
        training=sections.training_section(comparison.models, read_training_logs(folder, comparison)),
        rewards=rewards_section(results, comparison.models, read_alignment_logs(folder)),
        breakdowns=sections.breakdown_section(comparison.models),
        ablations=ablation_section(as_mapping(studies.get("ablations"))),
        scaling=scaling_section(as_mapping(studies.get("scaling"))),
        codebook=sections.codebook_section(results),
        examples=sections.examples_section(results, comparison.models),
        notes=[str(note) for note in as_sequence(results.get("notes"))],
    )
    target = folder / "report.html"
    write_text(target, page)
    return target


def read_results(path: Path) -> dict[str, Any]:
    """The content of `results.json` or of a study beside it; UserError names the file, and the line where the JSON breaks."""
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"{path} does not exist; finish a run first (`onerec run CONFIG`), then ask for its report"
        ) from None
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}, line {error.lineno}: not valid JSON ({error.msg}); run the evaluation again"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    if not isinstance(results, dict):
        raise UserError(f"{path} holds a {type(results).__name__}, not a JSON object; run the evaluation again")
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
