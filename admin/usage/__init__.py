"""What was used: totals, series over time, and the records of single requests."""
