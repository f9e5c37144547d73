"""The image that every component runs in, unless `python -m pipelines compile --image` names another."""

IMAGE = "parapet:dev"
