"""Jobs, results, statistics, reports."""
