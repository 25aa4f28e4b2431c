"""The real helm, and a fixture that renders the chart."""

from tests.helpers.chart import helm, render

__all__ = ["helm", "render"]
