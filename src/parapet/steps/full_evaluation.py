"""full_evaluation: attacks and audits the front on the test split, and evaluates its ONNX graphs and INT8 variants."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from parapet.config import Params, parse, to_dict
from parapet.cores import Cores, FreeCores
from parapet.data.info import check_files, read_info
from parapet.disk import sealed
from parapet.disk.files import read_json, replacing, replacing_folder
from parapet.disk.replacement import ID, refuse_to_replace
from parapet.errors import WorkError
from parapet.processes.pool import Task, Workers
from parapet.progress import Progress
from parapet.store import results
from parapet.store.keys import full_evaluation_key, surrogates_of
from parapet.store.search_folder import SearchFolder
from parapet.tracking.tracker import Tracker

SECTIONS = ("seed", "device", "data", "threat", "search", "export", "full_evaluation")
_EVALUATE = "parapet.steps.full_evaluation:evaluate"


def run(params: Params, dataset: Path, search: Path, out: Path, *, devices: list[str],
        cache: Path | None = None, tracker: Tracker | None = None) -> dict[str, Any]:
    """Evaluate every member of the front in folder `search`, and the undefended network, into `out`/<id>.json.

    <id>.safetensors beside it has adversarial images, <id>-int8.onnx is the INT8 variant. An evaluation under the same
    configuration in `cache` is used again. Returns {evaluated}, the number of evaluations. Raises InputError where an
    input is damaged or `check_place` refuses `out`, WorkError where an evaluation fails.
    """
    info = read_info(dataset)
    check_files(dataset, info)
    check_place(out, [dataset, search, *filter(None, [cache])])
    found = SearchFolder(search)
    found.check_data(info["fingerprint"], dataset)
    ids = found.all_ids()
    sources = {name: found.candidate(name) for name in ids}
    with replacing_folder(out) as partial, TemporaryDirectory() as spare, Workers(
            devices, attempts=params.search.attempts, timeout=params.search.timeout_seconds) as workers:
        folders = {name: (cache / "evaluations" / name if cache else partial) for name in ids}
        tasks = [Task(name, _EVALUATE, {
            "params": to_dict(params), "candidate": str(sources[name]), "dataset": str(dataset),
            "surrogates": [str(sources[other]) for other in surrogates_of(name, ids)],
            "out": str(folders[name]), "locks": str((cache or Path(spare)) / "locks")},
            step="full_evaluation", about=f"candidate {name}", candidate=name) for name in ids]
        shares, texts = [0.0] * len(tasks), [""] * len(tasks)
        with Progress("full evaluation", len(tasks), "candidates") as progress:
            for name in ids:
                path = folders[name] / f"{name}.json"
                key = full_evaluation_key(params, results.trained(sources[name])["key"], found.digests(name),
                                          [str(sources[other]) for other in surrogates_of(name, ids)])
                results.done(path, key, progress.note)  # reports damage; a worker then measures it again

            def show() -> None:
                running = [text for text, share in zip(texts, shares) if text and share < 1]
                waiting = "starting workers" if sum(shares) < len(shares) else "done"
                progress.update(sum(shares), ", ".join(running) or waiting)

            def on_progress(place: int, text: str, share: float) -> None:
                shares[place], texts[place] = share, f"{ids[place][:6]} {text}"

            for place, outcome in workers.run(tasks, on_progress, show):
                if outcome.result is None:
                    raise WorkError(f"the evaluation of candidate {ids[place]} failed: {outcome.reason}; "
                                    "what is evaluated already is kept, so run again.")
                shares[place] = 1.0
                _copy(folders[ids[place]], partial, ids[place])
        sealed.seal_folder(partial)
    if tracker:
        for name in ids:
            _track(tracker, found.search_id, out / f"{name}.json")
    return {"evaluated": len(ids)}


def check_place(out: Path, kept: Iterable[Path]) -> None:
    """Raise InputError where writing evaluations to `out` would delete any of `kept`, or foreign files."""
    refuse_to_replace(out, kept, [f"{ID}.json"],
                      [sealed.DIGESTS, f"{ID}.json", f"{ID}.safetensors", f"{ID}-int8.onnx", f"{ID}.state/*"])


def evaluate(*, params: dict[str, Any], candidate: str, dataset: str, surrogates: list[str], out: str, device: str,
             locks: str | None = None, progress: results.Report = results.ignore) -> dict[str, Any]:
    """Evaluate one candidate on the test split and write `out`/<id>.json, unless that is there already; returns {id}.

    `surrogates` are the folders of other candidates, whose adversarial images the audit transfers. An evaluation that
    was killed resumes at its last unfinished batch. `locks` is the folder of the lock `Cores`, which is held
    exclusively while the INT8 variant is timed.
    """
    import torch  # here and below: the parent process imports this module without torch

    from parapet.attacks import audited_rows, examine, full_suite, run_suite
    from parapet.attacks.compositions import named
    from parapet.attacks.evaluation_state import StateRefused
    from parapet.data.dataset import Dataset
    from parapet.models import load
    from parapet.steps import int8

    settings, folder = parse(Params, params), Path(candidate)
    config, threat = settings.full_evaluation, settings.threat
    trained, files = results.trained(folder, registered=True), results.file_digests(folder)
    key = full_evaluation_key(settings, trained["key"], files, surrogates)
    path = Path(out) / f"{trained['id']}.json"
    if results.done(path, key) is not None:
        _forget(path)  # left by a process that was killed at the very end
        return {"id": trained["id"]}
    torch.set_num_threads(settings.search.threads)
    cores = Cores(Path(locks)) if locks else FreeCores()
    data = Dataset.open(Path(dataset))
    results.check_data(data.fingerprint, trained["fingerprint"], Path(dataset))
    network = load(folder / results.WEIGHTS, device).to(memory_format=torch.channels_last)
    images, labels = data.split("test", device=device, limit=config.images).all()
    suite = full_suite(pgd_steps=config.pgd_steps, pgd_restarts=config.pgd_restarts,
                       deepfool_steps=config.deepfool_steps, apgd_steps=config.apgd_steps,
                       targets=config.apgd_targets, fab_steps=config.fab_steps, square_queries=config.square_queries)
    suite += map(named, config.also)
    state = path.with_suffix(f".{key[:12]}.state")
    _forget(path, but=state)

    def attack() -> Any:
        return run_suite(
            network, images, labels, norm=threat.norm, eps=threat.eps, suite=suite, batch_size=config.batch_size,
            generator=torch.Generator().manual_seed(settings.seed), state=state,
            progress=lambda name, share: progress(f"attack {name}", share * 0.7), turn=cores.shared)

    try:
        record, adversarial = attack()
    except StateRefused:  # the name of the folder holds the key, so its content is damaged or foreign
        shutil.rmtree(state)
        record, adversarial = attack()
    rows = audited_rows(labels, config.audit_images, settings.seed)
    with cores.shared():
        record, adversarial, verdict = examine(
            network, images, labels, record, adversarial, rows, norm=threat.norm, eps=threat.eps, seed=settings.seed,
            surrogates=[load(Path(folder) / results.WEIGHTS, device) for folder in surrogates],
            progress=lambda name, share: progress(name, 0.7 + 0.2 * share))
        replay = _replay(folder / results.ONNX, network, images, labels, adversarial, settings.export.tolerance)
    variant, beside = None, []
    if config.int8_images and network.genome.meets_attacks:
        variant = int8.run(settings, folder, data, path.parent, images, labels, adversarial, cores=cores,
                           progress=lambda text, share: progress(text, 0.9 + share * 0.1))
        beside.append(variant["file"])
    confusion = {name: _confusion(network, batch, labels) for name, batch in (("clean", images),
                                                                              ("adversarial", adversarial))}
    stored = _store(path.with_suffix(".safetensors"), network, images, labels, adversarial, config.stored_images)
    results.write(path, candidate=trained["id"], key=key, beside=[*beside, *filter(None, [stored])], split="test",
                  fingerprint=data.fingerprint, genome=network.genome.to_dict(), files=files, evaluation=record,
                  audit=verdict, curves=_curves(verdict), onnx=replay, int8=variant,
                  images=stored, confusion=confusion)
    _forget(path)
    return {"id": trained["id"]}


def _forget(path: Path, but: Path | None = None) -> None:
    """Remove the states of unfinished evaluations of the candidate whose result is `path`, except the folder `but`."""
    for state in set(path.parent.glob(f"{path.stem}.*.state")) - {but}:
        shutil.rmtree(state, ignore_errors=True)


def _curves(audit: dict[str, Any]) -> dict[str, Any] | None:
    """The curves of the audit, by radius and by number of steps; None where no image is classified correctly."""
    numbers = {check["id"]: check["numbers"] for check in audit["checks"]}
    if "radius" not in numbers:
        return None
    return {**{name: numbers["radius"][name] for name in ("eps", "accuracy")},
            **{name: numbers["steps"][name] for name in ("steps", "loss")},
            "steps_accuracy": numbers["steps"]["accuracy"]}


def _track(tracker: Tracker, search_id: str, path: Path) -> None:
    result = read_json(path)
    record = result["evaluation"]
    numbers = {"test.clean_accuracy": record["clean_accuracy"], "test.robust_accuracy": record["robust_accuracy"],
               **{f"test.{name}.{kind}": attack[kind] for name, attack in record["attacks"].items()
                  for kind in ("alone", "left") if attack[kind] is not None}}
    tracker.evaluation(search_id, result["id"], numbers, {"test": path})


def _replay(path: Path, network: Any, images: Any, labels: Any, adversarial: Any, tolerance: float) -> dict[str, Any]:
    """The accuracies of the exported graph on the images that the torch network was evaluated on, and their parity.

    A failed parity is recorded and not raised: the evaluation remains useful, and the promotion gate refuses the model.
    """
    from parapet.deployment import runtime
    from parapet.deployment.parity import describe_divergence, replay

    running = runtime.session(path)
    clean, robust = (replay(network, running, batch, labels, tolerance=tolerance) for batch in (images, adversarial))
    found = {"clean_accuracy": clean.graph_accuracy, "robust_accuracy": robust.graph_accuracy,
             "label_agreement": min(clean.label_agreement, robust.label_agreement),
             "robust_difference": robust.untied_difference, "ties": max(clean.ties, robust.ties)}
    reasons = [f"on {name} images {why}" for name, each in (("clean", clean), ("adversarial", robust))
               if (why := each.why_not()) is not None]
    if reasons:
        reasons.append(describe_divergence(network.cpu(), path, images.cpu(), tolerance))
    return {**found, "parity": "failed" if reasons else "held", "reason": "; ".join(reasons) or None}


def _confusion(network: Any, images: Any, labels: Any) -> list[list[int]]:
    """The confusion matrix in numbers of images: rows are true classes, columns predictions."""
    import torch

    from parapet.attacks.inputs import predict

    device = next(network.parameters()).device
    pairs = labels.cpu() * network.classes + predict(network, images.to(device)).cpu()
    return torch.bincount(pairs, minlength=network.classes ** 2).reshape(network.classes, -1).tolist()


def _store(path: Path, network: Any, images: Any, labels: Any, adversarial: Any, count: int) -> str | None:
    """Store the first `count` images that are classified correctly and whose adversarial images are not.

    Returns the file's name; None where there is no such image.
    """
    from safetensors.torch import save_file

    from parapet.attacks.inputs import predict

    before, after = predict(network, images), predict(network, adversarial)
    chosen = ((before == labels) & (after != labels)).nonzero().squeeze(1)[:count]
    if len(chosen) == 0:
        return None
    tensors = {"clean": images[chosen], "adversarial": adversarial[chosen], "labels": labels[chosen],
               "predictions_clean": before[chosen], "predictions_adversarial": after[chosen]}
    with replacing(path) as partial:
        save_file({name: value.cpu().contiguous() for name, value in tensors.items()}, partial)
    return path.name


def _copy(source: Path, target: Path, name: str) -> None:
    for suffix in (".json", ".safetensors", "-int8.onnx"):
        path = source / f"{name}{suffix}"
        if source != target and path.exists():
            shutil.copyfile(path, target / path.name)
