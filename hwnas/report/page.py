"""A report as one HTML page that loads nothing: Jinja2 templates, and Vega in the page for its charts.

Jinja2 escapes everything that comes from a file or a name. The page's own policy (CSP) forbids any
request and `eval`, so that what it holds cannot reach out even if something slipped through.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from hwnas.report.charts import CONFIG, DARK_THEME, Chart
from hwnas.report.dimensions import percent
from hwnas.report.model import report_model
from hwnas.report.training import TrainingReport
from hwnas.search.run import SearchResult

if TYPE_CHECKING:
    import jinja2

    from hwnas.predictors.latency import LatencyTable

__all__ = ["render", "report_html", "training_html"]

LONG = 30
"""A table of more networks scrolls by itself."""


def report_html(result: SearchResult, *, tables: Mapping[str, LatencyTable]) -> str:
    """The whole page of a run, with the tables of its devices that are at hand, by device."""
    model = report_model(result, tables=tables)
    return render("report.html", charts=model.charts, model=model, long=LONG)


def training_html(model: TrainingReport) -> str:
    """The whole page of a training."""
    return render("training.html", charts=model.charts, model=model)


def render(template: str, *, charts: Mapping[str, Chart], **values: Any) -> str:
    """A template with its charts, which the page draws itself."""
    return (
        _templates()
        .get_template(template)
        .render(
            charts=charts,
            specs={name: chart.spec for name, chart in charts.items()},
            config=CONFIG,
            dark_theme=DARK_THEME,
            **values,
        )
    )


@cache
def _templates() -> jinja2.Environment:
    import jinja2

    folder = files("hwnas.report") / "templates"

    def inlined(name: str) -> str:
        return (folder / name).read_text(encoding="utf-8")

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(inlined),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    environment.filters["percent"] = percent
    # Files of this package, not of a run: the only text that is not escaped.
    environment.globals["inlined"] = lambda name: _markup(inlined(name))
    return environment


def _markup(text: str) -> Any:
    from markupsafe import Markup

    return Markup(text)
