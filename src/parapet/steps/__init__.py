"""The steps of the pipeline, one file each: a step takes parameters and paths, writes files, and returns a few metrics.

The command line, DVC and Kubeflow call these same functions.
"""
