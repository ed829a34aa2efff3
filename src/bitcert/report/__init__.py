"""REPORT: certificates, profiles and bounds as pages, figures and tables for the terminal. Displays, never computes.

What a report says is as true as what it was given; whether a certificate is valid is for ``bitcert verify`` to say.
Pages and figures load when they are asked for: ``verify`` says what it found without any.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bitcert.report.bounds.display import bounds_files, bounds_summary, render_bounds, series_files
    from bitcert.report.bounds.figures import plot_bars
    from bitcert.report.bounds.figures import plot_effective_parameters as plot_bound_layers
    from bitcert.report.bounds.series import plot_series
    from bitcert.report.certificate.display import render_report, terminal_summary
    from bitcert.report.certificate.figures import plot_bound_surface, plot_history, plot_sections
    from bitcert.report.certificate.rules import tree_lines, vote_lines
    from bitcert.report.comparison.display import (
        comparison_files,
        comparison_summary,
        compression_summary,
        render_comparison,
    )
    from bitcert.report.comparison.figure import plot_comparison
    from bitcert.report.model import rows_grid
    from bitcert.report.stability.display import render_stability, stability_files, stability_summary
    from bitcert.report.stability.distributions import plot_cushions, plot_distribution, plot_four_distributions
    from bitcert.report.stability.figures import (
        plot_attenuation,
        plot_effective_parameters,
        plot_margins,
        plot_singular_values,
        plot_track,
    )
    from bitcert.report.studies.display import render_studies, study_files, study_summary
    from bitcert.report.studies.figure import plot_study
    from bitcert.report.survey.display import render_survey, survey_files, survey_summary
    from bitcert.report.survey.figures import plot_correlations, plot_scatter

__all__ = [
    "bounds_files",
    "bounds_summary",
    "comparison_files",
    "comparison_summary",
    "compression_summary",
    "plot_attenuation",
    "plot_bars",
    "plot_bound_layers",
    "plot_bound_surface",
    "plot_comparison",
    "plot_correlations",
    "plot_cushions",
    "plot_distribution",
    "plot_effective_parameters",
    "plot_four_distributions",
    "plot_history",
    "plot_margins",
    "plot_scatter",
    "plot_sections",
    "plot_series",
    "plot_singular_values",
    "plot_study",
    "plot_track",
    "render_bounds",
    "render_comparison",
    "render_report",
    "render_stability",
    "render_studies",
    "render_survey",
    "rows_grid",
    "series_files",
    "stability_files",
    "stability_summary",
    "study_files",
    "study_summary",
    "survey_files",
    "survey_summary",
    "terminal_summary",
    "tree_lines",
    "vote_lines",
]

_MODULES = {
    "bounds.display": "bounds_files bounds_summary render_bounds series_files",
    "bounds.figures": "plot_bars",
    "bounds.series": "plot_series",
    "certificate.display": "render_report terminal_summary",
    "certificate.figures": "plot_bound_surface plot_history plot_sections",
    "certificate.rules": "tree_lines vote_lines",
    "comparison.display": "comparison_files comparison_summary compression_summary render_comparison",
    "comparison.figure": "plot_comparison",
    "model": "rows_grid",
    "stability.display": "render_stability stability_files stability_summary",
    "stability.distributions": "plot_cushions plot_distribution plot_four_distributions",
    "stability.figures": "plot_attenuation plot_effective_parameters plot_margins plot_singular_values plot_track",
    "studies.display": "render_studies study_files study_summary",
    "studies.figure": "plot_study",
    "survey.display": "render_survey survey_files survey_summary",
    "survey.figures": "plot_correlations plot_scatter",
}
_HOMES = {name: (module, name) for module, names in _MODULES.items() for name in names.split()}
_HOMES["plot_bound_layers"] = "bounds.figures", "plot_effective_parameters"


def __getattr__(name: str) -> Any:
    """A name from the module that has it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, own = _HOMES[name]
    return getattr(importlib.import_module(f"{__name__}.{module}"), own)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
