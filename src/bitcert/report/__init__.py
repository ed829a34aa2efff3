"""REPORT: a certificate as a page, as figures and as a table for the terminal. Displays, never computes.

What a report says is as true as the certificate it was given; whether that is valid is for ``bitcert verify`` to say.
"""

from bitcert.report.figures import plot_bound_surface, plot_history, plot_sections
from bitcert.report.page import render_report
from bitcert.report.terminal import terminal_summary

__all__ = [
    "plot_bound_surface",
    "plot_history",
    "plot_sections",
    "render_report",
    "terminal_summary",
]
