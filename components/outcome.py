"""outcome: a summary of a run, whether it succeeded or failed."""

from kfp import dsl
from kfp.dsl import Markdown, Output, PipelineTaskFinalStatus

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def outcome(workspace: str, status: PipelineTaskFinalStatus, told: Output[Markdown]) -> None:
    """Summarise the run in a few lines.

    Args:
        workspace: Folder that the tasks of the run share, where front and promotion store their numbers.
        status: How the other tasks ended.
        told: The text, for Kubeflow's page.
    """
    from pathlib import Path

    from parapet.cli import pod

    pod.begin("outcome")

    from parapet.disk.files import write_text
    from parapet.steps import outcome as step

    text = step.run(Path(workspace), state=status.state, task=status.pipeline_task_name,
                    error=status.error_message or "")
    write_text(Path(told.path), text)
    print(text)
