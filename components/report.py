"""report: one HTML page, model cards and tables for plots."""

from kfp import dsl
from kfp.dsl import HTML, Artifact, ClassificationMetrics, Input, Output

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def report(report: str, tracking: str, assembled: Input[Artifact], page: Output[HTML],
           reported: Output[Artifact], clean: Output[ClassificationMetrics],
           attacked: Output[ClassificationMetrics]) -> None:
    """Write the report of an assembled front.

    Args:
        report: Section of params.yaml as JSON.
        tracking: Section of params.yaml as JSON.
        assembled: Output of front.
        page: The page alone, for Kubeflow to show.
        reported: report/ and plots/.
        clean: Confusion matrix of the most robust member on the test images.
        attacked: The same under every attack of the suite.
    """
    import json
    import os
    import shutil
    from pathlib import Path
    from tempfile import TemporaryDirectory

    from parapet.cli import pod

    pod.begin("report")

    from parapet.config import Params, parse
    from parapet.disk.files import write_json
    from parapet.steps import report as step
    from parapet.tracking import tracked_task

    params = parse(Params, {"report": json.loads(report), "tracking": json.loads(tracking)})
    with TemporaryDirectory() as folder:
        out = Path(folder)
        shutil.copytree(assembled.path, out, dirs_exist_ok=True)
        with tracked_task(os.environ, enabled=params.tracking.enabled, experiment=params.tracking.experiment) as task:
            written = step.run(params, out, tracker=task.tracker,
                               mlflow_ui=os.environ.get("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000"))
        shutil.copyfile(written, page.path)
        found = step.confusion(out)
        for metrics, name in ((clean, "clean"), (attacked, "adversarial")):
            metrics.log_confusion_matrix(found["classes"], found[name])
            write_json(Path(metrics.path), {"classes": found["classes"], "matrix": found[name]})
        for name in ("report", "plots"):
            shutil.copytree(out / name, Path(reported.path) / name, dirs_exist_ok=True)
