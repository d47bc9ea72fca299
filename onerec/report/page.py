"""Pages from templates: what all pages of the report share, and where their style sheets and scripts are read from."""

from pathlib import Path
from typing import Any

import jinja2
import yaml
from markupsafe import Markup

from onerec.report import charts
from onerec.report.values import (
    FEATURES,
    count,
    date_in_words,
    duration,
    figure,
    percent,
    readable,
    signed,
    size,
    verdict,
)

FOLDERS = (Path(__file__).parent / "templates", Path(__file__).parent / "inspect")


def render_template(name: str, **values: Any) -> str:
    """A template as text. Values are escaped; the formats of `values` are its filters."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDERS),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.ChainableUndefined,  # what a file lacks is left out of the page
    )
    formats = (count, date_in_words, duration, figure, percent, readable, signed, size, verdict)
    environment.filters |= {write.__name__: write for write in formats} | {"yaml": _yaml}
    environment.globals |= {"legend_mark": charts.legend_mark, "styles": charts.SERIES_STYLES, "file": _file}
    environment.globals["features"] = FEATURES
    return environment.get_template(name).render(**values)


def _file(name: str) -> Markup:
    """The content of a style sheet or script that comes with the package."""
    path = next(folder / name for folder in FOLDERS if (folder / name).is_file())
    return Markup(path.read_text(encoding="utf-8"))


def _yaml(content: object) -> str:
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)
