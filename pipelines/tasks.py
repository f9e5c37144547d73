"""Creates the tasks of a Kubeflow pipeline from the steps of Parapet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kfp import dsl

import components
from parapet.cli.plugins import VARIABLE
from parapet.config import Params
from pipelines.resources import Resources

# Kubeflow's cache key consists of inputs and image. The result of a promotion also depends on the model registry, and
# that of outcome on files in the workspace.
_NEVER_CACHED = ("promotion", "outcome")


@dataclass(frozen=True)
class Tasks:
    """Creates tasks that run in `image`. `given` are the pipeline's parameters; each component gets those that are its
    inputs. Without `resources` nothing is requested from the cluster."""

    params: Params
    image: str
    resources: Resources | None
    given: Mapping[str, Any]

    def __call__(self, name: str, title: str, *, waits: int = 0, **arguments: Any) -> dsl.PipelineTask:
        """The task of the component `name` with the display name `title`; `waits` is as in `Resources.request`."""
        component, resources = getattr(components, name), self.resources
        wanted = component.component_spec.inputs
        own = {"device": resources.device(name)} if resources and resources.device(name) else {}
        task = component(**{key: value for key, value in {**self.given, **own}.items() if key in wanted}, **arguments)
        if resources:
            resources.request(task, name, self.params.device, waits=waits)
        if self.params.plugins:
            task.set_env_variable(VARIABLE, ",".join(self.params.plugins))
        if name in _NEVER_CACHED:
            task.set_caching_options(False)
        return task.set_container_image(self.image).set_display_name(title)
