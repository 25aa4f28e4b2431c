"""The report of an evaluation: built from finished runs, rendered as tables, text and plots."""
