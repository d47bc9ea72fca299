"""The page a run leaves behind: `results.json` and the training logs become one self-contained `report.html`.

Nothing is computed here that is not in those files, apart from the words "above", "below" and "level with", which say
where a paired interval lies. What a run did not record is left out of the page.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
import yaml

from onerec.errors import UserError
from onerec.files import write_text
from onerec.report import charts, sections
from onerec.report.ablations import ablation_section
from onerec.report.pairs import headline, paired_section
from onerec.report.rewards import rewards_section
from onerec.report.scaling import scaling_section
from onerec.report.values import (
    as_mapping,
    as_pairs,
    as_sequence,
    count,
    date_in_words,
    duration,
    figure,
    percent,
)
from onerec.run.artefact import STAGE_FILE

ID_LEVEL_NOTE = (
    "ID-level recall counts a hit when a recommended item has the code sequence that the quantizer gave the target, "
    "before items sharing one are told apart; it can only flatter, so every other figure counts the item itself."
)

STUDIES = ("ablations", "scaling")  # files of a run folder that benchmarks write with --run


def write_report(folder: Path) -> Path:
    """Write `folder/report.html` from `folder/results.json` and the training logs beside it; return its path.

    Logs are read from `generator/metrics.jsonl`, `baselines/<model>/metrics.jsonl` and `aligned_<objective>/metrics.jsonl`
    where they exist, and what benchmarks left there from `ablations.json` and `scaling.json`. The page replaces an older one
    only when it is complete. Raises UserError when `results.json` is missing, or one of these files is no JSON object.
    """
    studies = {name: read_results(path) for name in STUDIES if (path := folder / f"{name}.json").is_file()}
    logs, alignments = read_training_logs(folder), read_alignment_logs(folder)
    page = render_report(read_results(folder / "results.json"), logs, studies, alignments)
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


def read_training_logs(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Lines of every training log in a run folder, by model name. Models without a log are absent."""
    paths = {"onerec": folder / "generator" / "metrics.jsonl"}
    paths |= {path.parent.name: path for path in sorted(folder.glob("baselines/*/metrics.jsonl"))}
    return {name: list(_json_lines(path)) for name, path in paths.items() if path.is_file()}


def read_alignment_logs(folder: Path) -> dict[str, list[dict[str, Any]]]:
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


def render_report(
    results: dict[str, Any],
    logs: dict[str, list[dict[str, Any]]],
    studies: dict[str, dict[str, Any]],
    alignments: dict[str, list[dict[str, Any]]],
) -> str:
    """The whole page as text. Sections without data are left out.

    `logs`: of trainings, by model. `studies`: what benchmarks wrote, by `STUDIES`. `alignments`: logs, by objective.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"figure": figure, "percent": percent, "count": count, "duration": duration}
    environment.globals |= {"legend_mark": charts.legend_mark, "id_level_note": ID_LEVEL_NOTE}
    environment.globals["styles"] = charts.SERIES_STYLES
    run = as_mapping(results.get("run"))
    models = sections.list_models(results)
    test = sections.comparison_section(models, "test")
    validation = sections.comparison_section(models, "valid")
    return environment.get_template("report.html.jinja").render(
        run=run,
        started=date_in_words(run.get("started")),
        machine=as_pairs(run.get("machine")),
        versions=as_pairs(run.get("versions")),
        config=_config_text(run.get("config")),
        dataset=as_mapping(results.get("dataset")),
        protocol=as_mapping(results.get("protocol")),
        models=models,
        headline=headline(results, models),
        comparison=test or validation,
        validation=validation if test else None,
        paired=paired_section(results, models),
        selection=sections.selection_section(models),
        training=sections.training_section(models, logs),
        rewards=rewards_section(results, models, alignments),
        breakdowns=sections.breakdown_section(models),
        ablations=ablation_section(as_mapping(studies.get("ablations"))),
        scaling=scaling_section(as_mapping(studies.get("scaling"))),
        codebook=sections.codebook_section(results),
        examples=sections.examples_section(results, models),
        notes=[str(note) for note in as_sequence(results.get("notes"))],
    )


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            # A run that was killed while writing leaves half a line; the curve does without it.
            continue
        if isinstance(entry, dict):
            yield entry


def _config_text(config: object) -> str:
    return yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=100) if isinstance(config, dict) else ""
