"""The benchmark's report: results of run folders as tables, plots, and plain numbers."""
