"""The Kubeflow pipelines and their drivers: `python -m pipelines {compile,local}`."""
