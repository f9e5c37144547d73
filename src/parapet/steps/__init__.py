"""The steps of the pipeline, one file each: parameters and paths in, files and a small dict of metrics out.

The command line, DVC and Kubeflow call these same functions.
"""
