"""REPORT: certificates, profiles and bounds as pages, figures and tables for the terminal. Displays, never computes.

What a report says is as true as what it was given; whether a certificate is valid is for ``bitcert verify`` to say.
"""

from bitcert.report.bounds.figures import plot_bars
from bitcert.report.bounds.figures import plot_effective_parameters as plot_bound_layers
from bitcert.report.bounds.page import bounds_files, render_bounds, series_files
from bitcert.report.bounds.series import plot_series
from bitcert.report.bounds.terminal import bounds_summary
from bitcert.report.certificate.figures import plot_bound_surface, plot_history, plot_sections
from bitcert.report.certificate.page import render_report
from bitcert.report.certificate.terminal import terminal_summary
from bitcert.report.comparison.figure import plot_comparison
from bitcert.report.comparison.page import comparison_files, render_comparison
from bitcert.report.comparison.terminal import comparison_summary, compression_summary
from bitcert.report.stability.figures import (
    plot_attenuation,
    plot_cushions,
    plot_distribution,
    plot_effective_parameters,
    plot_four_distributions,
    plot_margins,
    plot_singular_values,
)
from bitcert.report.stability.page import render_stability, stability_files
from bitcert.report.stability.terminal import stability_summary
from bitcert.report.stability.tracking import plot_track

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
    "plot_cushions",
    "plot_distribution",
    "plot_effective_parameters",
    "plot_four_distributions",
    "plot_history",
    "plot_margins",
    "plot_sections",
    "plot_series",
    "plot_singular_values",
    "plot_track",
    "render_bounds",
    "render_comparison",
    "render_report",
    "render_stability",
    "series_files",
    "stability_files",
    "stability_summary",
    "terminal_summary",
]
