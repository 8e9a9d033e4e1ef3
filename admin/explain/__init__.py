"""Explanations of described requests: the pipeline's verdicts in the admin API's words."""
