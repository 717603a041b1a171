"""Experiment tracking: copies of the journal where people compare runs.

`pump` runs the trackers off the round's path, `record` works out what to write, `names` and
`vocabulary` how it is called, `sagemaker` writes it to SageMaker Experiments.
"""
