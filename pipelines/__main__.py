"""The command `python -m pipelines`: reads the arguments, the working directory and the environment, and runs a verb.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from components.image import IMAGE
from parapet import cli
from parapet.cli.arguments import Parser, debuggable, pathname
from parapet.cli.tracking import git_revision
from parapet.config import Params, load
from parapet.cores import limit_threads
from parapet.errors import InputError
from parapet.redaction import redacted
from pipelines.image import refuse_mutable
from pipelines.layout import Layout

if TYPE_CHECKING:
    from pipelines.connection import Endpoint
    from pipelines.resources import Resources
    from pipelines.schedule import Entry
    from pipelines.submit import Version


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code, the same as for `parapet`: 0 done, 1 failed, 2 wrong input, 130 interrupted.
    """
    limit_threads(os.environ)
    options = _parse(arguments)
    return cli.guarded("pipelines", lambda: options.verb(options), options.interrupted, arguments=arguments,
                       debug=options.debug, step=options.command, params=getattr(options, "params", None))


def _compile(options: argparse.Namespace) -> int:
    params, resources = load(options.params), _resources(options.cluster)
    # The default image is used only on a local machine, where no cluster cache can confuse two images of one tag.
    refuse_mutable(options.image, allowed=options.allow_mutable_tag or options.image == IMAGE)
    name = _write(options.pipeline, params, options.image, resources, options.assembled, options.out)
    size = options.out.stat().st_size
    print(f"{options.out}: {name}, image {options.image}, {size / 1000:.0f} kB")
    return 0


def _local(options: argparse.Namespace) -> int:
    from pipelines import local
    from pipelines.robust_search import build

    params, layout = load(options.params), Layout(options.batch, options.generations_per_task)
    build(params, IMAGE, layout=layout)  # to raise an error before anything runs, if the pipeline cannot be built
    if code := cli.main(["check", "--params", str(options.params), "--out", str(options.out)]):
        return code
    # A container uses the data set that is part of its image.
    root = params.data.root if options.docker else _data_root(params)
    print(f"report  {local.run(params, options.out, root, layout, options.docker)}")
    return 0


def _submit(options: argparse.Namespace) -> int:
    from pipelines import submit
    from pipelines.connection import connect

    params, resources = load(options.params), _resources(options.cluster)
    refuse_mutable(options.image, allowed=options.allow_mutable_tag)
    revision, dirty = _revision(options.allow_dirty)
    endpoint = _endpoint(options)
    with TemporaryDirectory() as folder:
        compiled = Path(folder) / "pipeline.yaml"
        _write(options.pipeline, params, options.image, resources, options.assembled, compiled)
        client = connect(endpoint)
        version = submit.upload(client, endpoint, _title(options.pipeline), compiled, revision, dirty=dirty)
    print(f"version {version.name} of {_title(options.pipeline)}", flush=True)
    submit.run(client, endpoint, version, experiment=options.experiment,
               title=f"{_title(options.pipeline)} {version.name}", say=_say, wait=not options.no_wait,
               page=options.ui or endpoint.host, service_account=options.service_account, interval=options.interval,
               longest=options.timeout)
    return 0


def _schedule(options: argparse.Namespace) -> int:
    from rich.console import Console

    from parapet.disk.files import file_digest
    from pipelines import schedule, submit
    from pipelines.connection import connect

    entries = schedule.read(options.file)
    for entry in entries:
        refuse_mutable(entry.image, allowed=options.allow_mutable_tag)
    revision, dirty = _revision(options.allow_dirty)
    endpoint = _endpoint(options)
    with TemporaryDirectory() as folder:
        def compiled(entry: Entry) -> Path:
            path = Path(folder) / f"{entry.name}.yaml"
            if not path.exists():
                _write(entry.pipeline, load(Path(entry.params)), entry.image,
                       _resources(Path(entry.cluster) if entry.cluster else None), entry.assembled, path)
            return path

        for entry in entries:
            compiled(entry)
        client = connect(endpoint)

        def upload(entry: Entry) -> Version:
            return submit.upload(client, endpoint, _title(entry.pipeline), compiled(entry), revision, dirty=dirty)

        changes = schedule.plan(client, endpoint, entries, lambda entry: submit.version_name(
            revision, file_digest(compiled(entry)), dirty=dirty))
        Console().print(schedule.shown(changes))
        todo = [change for change in changes if change.action != "keep"]
        if not todo:
            print("nothing to do.")
        elif not options.apply:
            print(f"{len(todo)} to do; add --apply to do it.")
        else:
            for change in todo:
                schedule.apply(client, endpoint, change, upload)
                _say(f"{change.name}: {change.action} done")
    return 0


def _write(pipeline: str, params: Params, image: str, resources: Resources, assembled: str | None, out: Path) -> str:
    """Compile into the file `out`; returns a description of the pipeline."""
    from pipelines import compiling

    if pipeline == "promote":
        from pipelines import promote

        if not assembled:
            raise InputError("the pipeline promote needs the front of an earlier run; give the address of its artifact "
                             "`assembled` with --assembled.")
        compiling.write(promote.build(params, image, resources, assembled), out)
        return "the gate and the promotion alone"
    compiling.compile_pipeline(params, image, out, resources)
    layout = resources.layout
    return (f"{params.search.generations} generations of {params.search.population}, {layout.tasks(params)} tasks, "
            f"{layout.pods(params)} pods")


def _title(pipeline: str) -> str:
    return pipeline.replace("_", "-")


def _resources(path: Path | None) -> Resources:
    from pipelines import resources

    return resources.Resources() if path is None else resources.load(path)


def _revision(allow_dirty: bool) -> tuple[str, bool]:
    revision = git_revision()
    done = subprocess.run(["git", "status", "--porcelain"], capture_output=True, text=True, check=False)
    dirty = bool(done.stdout.strip()) or done.returncode != 0
    if dirty and not allow_dirty:
        raise InputError("the working directory has changes that are not committed, and a version is named by its "
                         "commit; commit them, or say --allow-dirty.")
    return revision, dirty


def _endpoint(options: argparse.Namespace) -> Endpoint:
    from pipelines.connection import Endpoint

    return Endpoint(options.host or os.environ.get("KF_PIPELINES_ENDPOINT"), options.namespace, options.token_file,
                    options.ca_file, options.request_seconds)


def _say(text: str) -> None:
    print(redacted(text), flush=True)


def _data_root(params: Params) -> str:
    """The absolute paths of the data sets' folders, separated by colons; PARAPET_DATA comes before data.root."""
    roots = [os.environ.get("PARAPET_DATA"), params.data.root]
    return ":".join(str(Path(root).resolve()) for root in roots if root)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m pipelines", description="The search on Kubeflow Pipelines.")
    sub = parser.add_subparsers(required=True, metavar="VERB", dest="command")

    def verb(name: str, function: Callable[[argparse.Namespace], int], text: str,
             interrupted: str = "every task was ended, and the same command starts again") -> argparse.ArgumentParser:
        added = sub.add_parser(name, help=text, description=text)
        added.set_defaults(verb=function, interrupted=interrupted)
        return added

    def params(added: argparse.ArgumentParser) -> None:
        added.add_argument("--params", type=pathname, default=Path("params.yaml"), metavar="FILE",
                           help="parameters (default: params.yaml)")

    def pipeline(added: argparse.ArgumentParser, image: str | None) -> None:
        params(added)
        added.add_argument("--pipeline", choices=("robust_search", "promote"), default="robust_search")
        added.add_argument("--assembled", metavar="URI", help="promote: the artifact `assembled` of an earlier run")
        added.add_argument("--cluster", type=pathname, metavar="FILE",
                           help="what is asked of the cluster (see pipelines/cluster.yaml)")
        added.add_argument("--image", default=image, required=image is None,
                           help="image that runs every step, by digest" + (f" (default: {image})" if image else ""))
        tags(added)

    def tags(added: argparse.ArgumentParser) -> None:
        added.add_argument("--allow-mutable-tag", action="store_true", help="take an image by tag")

    def server(added: argparse.ArgumentParser) -> None:
        added.add_argument("--host", metavar="URL", help="the API (default: KF_PIPELINES_ENDPOINT, the cluster that "
                           "one is in, or kubectl's)")
        added.add_argument("--namespace", help="of the user, where there are several")
        added.add_argument("--token-file", type=pathname, metavar="FILE", help="holds a bearer token")
        added.add_argument("--ca-file", type=pathname, metavar="FILE", help="certificates to trust")
        added.add_argument("--request-seconds", type=float, default=30.0, help="longest request (default: 30)")
        added.add_argument("--allow-dirty", action="store_true", help="with changes that are not committed")

    compiling = verb("compile", _compile, "write a pipeline as YAML for Kubeflow")
    pipeline(compiling, IMAGE)
    compiling.add_argument("--out", type=pathname, default=Path("pipelines/compiled/robust_search.yaml"),
                           metavar="FILE", help="file to write (default: pipelines/compiled/robust_search.yaml)")

    local = verb("local", _local, "run the pipeline on this machine with kfp.local")
    params(local)
    local.add_argument("--out", type=pathname, default=Path("runs/pipeline"), metavar="DIR",
                       help="folder for everything the run makes (default: runs/pipeline)")
    local.add_argument("--batch", type=int, default=0, metavar="N",
                       help="candidates a task (default: three tasks a candidate)")
    local.add_argument("--generations-per-task", type=int, metavar="N", help="tasks that search by themselves")
    local.add_argument("--docker", metavar="IMAGE", help="run every task in a container of this image")

    submit = verb("submit", _submit, "upload a version named by the git revision, run it, follow it to its end",
                  "the run goes on; end it in Kubeflow's pages, or with `kfp run terminate`")
    pipeline(submit, None)
    server(submit)
    submit.add_argument("--experiment", default="parapet", help="Kubeflow's (default: parapet)")
    submit.add_argument("--service-account", metavar="NAME", help="that the pods run as")
    submit.add_argument("--ui", metavar="URL", help="Kubeflow's pages, for the link to the run (default: the host)")
    submit.add_argument("--no-wait", action="store_true", help="do not follow the run")
    submit.add_argument("--interval", type=float, default=10.0, help="seconds between two looks (default: 10)")
    submit.add_argument("--timeout", type=float, metavar="SECONDS", help="follow it no longer")

    schedule = verb("schedule", _schedule, "bring recurring runs to what a file says, and show how first",
                    "what was done stays done; the same command does the rest")
    schedule.add_argument("--file", type=pathname, default=Path("pipelines/schedules.yaml"), metavar="FILE",
                          help="default: pipelines/schedules.yaml")
    schedule.add_argument("--apply", action="store_true", help="do it")
    tags(schedule)
    server(schedule)
    debuggable(parser)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
