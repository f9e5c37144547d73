"""The Kubeflow pipelines and their command: `python -m pipelines {compile,local,submit,schedule}`."""
