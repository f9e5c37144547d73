"""The folder of the project: the working directory, also for an experiment that DVC runs in a copy of it."""

from __future__ import annotations

from pathlib import Path

from parapet.cli.arguments import pathname

# `dvc queue` checks the project out into PROJECT/.dvc/tmp/exps/NAME, and `dvc exp run --temp` one folder further down;
# both delete the copy afterwards.
_EXPERIMENTS, _ALONE = (".dvc", "tmp", "exps"), "standalone"


def project() -> Path:
    """The working directory; inside a temporary copy that DVC made for an experiment, the project it is a copy of.

    What must outlive an experiment (the candidate cache, MLflow's database and artifacts) lies there.
    """
    here = Path.cwd().resolve()
    return here if (found := _original(here)) is None else found


def is_experiment() -> bool:
    """Whether DVC runs this in a temporary copy of the project, perhaps beside others."""
    return _original(Path.cwd().resolve()) is not None


def lasting(path: str | Path) -> Path:
    """A path for what outlives an experiment: relative to the project, and the same where there is no experiment."""
    path = pathname(path) if isinstance(path, str) else path
    return project() / path if is_experiment() and not path.is_absolute() else path


def _original(here: Path) -> Path | None:
    for folder in here.parents:
        if folder.parts[-len(_EXPERIMENTS):] == _EXPERIMENTS:
            names = here.relative_to(folder).parts
            below = names[2:] if names[0] == _ALONE else names[1:]
            if names == (_ALONE,):
                return None
            # .dvc lies in the project itself, which may be a folder of the repository that was checked out.
            root = folder.parents[len(_EXPERIMENTS) - 1]
            return root if not below or root.parts[-len(below):] == below else root.joinpath(*below)
    return None
