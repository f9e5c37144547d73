"""promotion: chooses a member of the front, registers it, and makes it champion if it passes the gate."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from parapet.config import Params, to_dict
from parapet.disk.files import digest, write_text
from parapet.errors import InputError, PromotionRefused
from parapet.promotion import version_tags
from parapet.promotion.choice import choose
from parapet.promotion.comparison import Comparison, attack
from parapet.promotion.gate import check_files, check_front, check_numbers, gate, parity
from parapet.promotion.reattack import Reattacked, reattack
from parapet.registry.contents import DIGEST_TAG, FILE_TAG, Damaged, check, download, file_tags
from parapet.registry.mlflow_registry import TICKET_TAG, MlflowRegistry
from parapet.registry.promotion_lock import Ticket, promotion_lock
from parapet.registry.registration import ModelPackage, attach, experiment_of, known, register
from parapet.registry.registry import CHALLENGER, CHAMPION, Registry, Version
from parapet.report.card import card_html, model_card
from parapet.store import results
from parapet.store.front_file import read as read_front
from parapet.store.front_file import read_evaluation

SECTIONS = ("seed", "device", "data", "threat", "tracking", "search", "export", "full_evaluation", "promotion")
CARDS = ("card.md", "card.html")


def run(params: Params, out: Path, *, uri: str, wish: str | None = None, candidate: str | None = None,
        dataset: Path | None = None, cache: Path | None = None, devices: Sequence[str] = ("cpu",),
        artifact_root: Path | None = None, allow_incomparable: bool = False, occasion: str = "",
        tell: Callable[[str], None] = lambda text: None) -> dict[str, Any]:
    """Choose a member of `out`/front.json, register it as challenger, and make it champion if it passes the gate.

    It is chosen by `wish` (default: `promotion.select`) or by its id, `candidate`. The gate reads the test split: the
    audit did not fail, the lower end of the 95 % interval of robust accuracy and the latency meet their bounds, ONNX
    parity held, and the model is not significantly worse than the champion on the same images. Both are judged under
    today's suite: an evaluation under another suite is repeated (this needs `dataset`, by default `out`/dataset, and
    keeps its results in `cache`, by default `out`/.parapet). The numbers must follow from the recorded outcomes. The
    rapid suite, run on the graph with a seed derived from `occasion`, must not break significantly more images, and the
    deep audit of the graph must not fail. The gate judges the lowest of these numbers. With `allow_incomparable` the
    comparison is left out if the champion cannot be attacked on these images (other data, no weights). Only one
    promotion runs at a time; `tell` is called with the owner of the lock that it waits for.

    Returns {id, reason, version, previous, moved, refreshed, comparison, reattack}. `moved` is False where the
    member is champion already; then `refreshed` says whether its tags and description were updated to today's
    evaluation. Raises InputError for files that are damaged or not those that were measured, and PromotionRefused with
    every reason; a refusal leaves the aliases and the versions unchanged.
    """
    config, front, cache = params.promotion, read_front(out / "front.json"), cache or out / ".parapet"
    if front["threat"] != to_dict(params.threat):
        raise InputError(f"{out / 'front.json'} was measured under {front['threat']}, and params.yaml says "
                         f"{params.threat}; promote with the threat model that was measured, or search again.")
    chosen, reason = choose(front, config.select if wish is None else wish, candidate)
    registry = MlflowRegistry(uri, config.model_name)
    check_files(chosen, out)
    check_front(out, chosen, read_evaluation(out, chosen))
    registry.aliases()  # reports an unreachable registry before anything is attacked
    data = dataset or out / "dataset"

    def judge(evaluation: dict[str, Any], folder: Path, graph: Path) -> Reattacked:
        check_numbers(f"the evaluation of {evaluation['id']} under today's suite", evaluation["evaluation"],
                      evaluation["audit"])
        return reattack(params, evaluation, folder, graph, data, cache, devices, occasion=occasion, tell=tell)

    today, = attack(params, chosen["id"], None, out, data, cache, devices, tell)
    judged = judge(today, (out / chosen["weights"]).parent, out / chosen["onnx"])
    chosen = {**chosen, **results.tested(judged.evaluation)}
    refusals = [*judged.refusals(config.significance), *gate(chosen, params), *parity(chosen)]
    tags = {**version_tags.numbers(chosen, front, params), **judged.tags()}
    with tempfile.TemporaryDirectory(prefix="parapet-") as folder:
        cards = _cards(chosen, front, judged.evaluation, Path(folder))
        package = _package(chosen, front, out, cards, params.tracking.experiment, artifact_root)
        with promotion_lock(registry, expiry=config.lock_seconds, tell=tell) as ticket:
            pointed, champion, compared = registry.aliases().get(CHAMPION), registry.aliased(CHAMPION), None
            if pointed is not None and champion is None:
                tell(f"the alias {CHAMPION} of {config.model_name} points at version {pointed}, which was deleted, so "
                     "there is no champion to compare with; it will point at the new one")
            outcome = {"id": chosen["id"], "reason": reason, "previous": champion and champion.number,
                       "refreshed": False, "reattack": judged.summary()}
            is_champion = champion is not None and champion.tags.get(DIGEST_TAG) == package.digest
            same = champion if is_champion else None
            # A version without weights cannot be attacked again, so the model is registered again with its weights.
            if same is not None and _has_files(same.tags) and _is_whole(registry, same, tell):
                if refusals:
                    raise PromotionRefused(f"{chosen['id']}, champion of {config.model_name} as version "
                                           f"{same.number}, no longer passes the gate: {'; '.join(refusals)}; "
                                           "`parapet rollback` restores the previous champion.")
                return {**outcome, "version": same.number, "moved": False, "comparison": None,
                        "refreshed": _refresh(registry, same, tags, cards[CARDS[0]])}
            check_files(chosen, out)  # again, because the attacks and the wait for the lock take long
            version = _challenge(registry, ticket, package, tags, cards[CARDS[0]])
            if champion is not None and same is None:
                obstacle, place = _incomparable(registry, champion, front, cache)
                if obstacle is None:
                    pair = attack(params, chosen["id"], place, out, data, cache, devices, tell)
                    named = f"the champion (version {champion.number})"
                    held = judge(pair[-1], place, place / results.ONNX)
                    compared = Comparison.of(held.evaluation, judged.evaluation)
                    refusals += compared.refusals(named, config.significance)
                    # Objections to the champion are reported, and do not by themselves stop the promotion.
                    doubts = [f"and of {named}, {doubt}" for doubt in held.refusals(config.significance)]
                    for doubt in doubts:
                        tell(doubt)
                    refusals += doubts if refusals else []
                elif not allow_incomparable:
                    refusals.append(obstacle)
            if refusals:
                raise PromotionRefused(f"{chosen['id']} is not promoted, and {config.model_name} is unchanged: "
                                       f"{'; '.join(refusals)}.")
            _check_champion(registry, ticket, chosen["id"], pointed)
            # The alias of the champion moves last: a promotion that is killed before that is repeated as a whole, and
            # one that is killed after it is complete.
            if chosen["mlflow_run_id"]:
                attach(uri, chosen["mlflow_run_id"], cards, "card")
            _refresh(registry, version, {**tags, **version_tags.passed(outcome["previous"], compared)}, cards[CARDS[0]])
            _check_champion(registry, ticket, chosen["id"], pointed)
            registry.move_champion(version.number)
    return {**outcome, "version": version.number, "moved": True, "comparison": compared and asdict(compared)}


def _challenge(registry: MlflowRegistry, ticket: Ticket, package: ModelPackage, tags: dict[str, str],
               card: Path) -> Version:
    """Register `package` unless it is registered already, and make it challenger; returns its version."""
    ticket.begin(aliases=registry.aliases(), model_created=not registry.exists(),
                 experiment=experiment_of(registry, package))
    registry.create_model()
    version = known(registry, package.identity(results.WEIGHTS, results.TRAINING)) or register(
        registry, package, {**tags, TICKET_TAG: ticket.nonce}, card.read_text(encoding="utf-8"))
    ticket.begin(version=version.number)
    registry.point(CHALLENGER, version.number)
    return version


def _refresh(registry: Registry, version: Version, tags: dict[str, str], card: Path) -> bool:
    """Update the tags of a version and its description; returns whether anything had changed."""
    if all(version.tags.get(name) == value for name, value in tags.items()):
        return False
    registry.tag(version.number, tags)
    registry.describe(version.number, card.read_text(encoding="utf-8"))
    return True


def _is_whole(registry: MlflowRegistry, champion: Version, tell: Callable[[str], None]) -> bool:
    """Whether the champion's files are those that were registered; otherwise `tell` is called with what is wrong."""
    try:
        check(registry, champion)
    except Damaged as error:
        tell(f"{error} It is registered again.")
        return False
    return True


def _check_champion(registry: Registry, ticket: Ticket, candidate: str, before: str | None) -> None:
    """Raise PromotionRefused where the champion is no longer version `before`, which the gate compared with, or the
    lock is lost."""
    ticket.check()
    now = registry.aliases().get(CHAMPION)
    if now != before:
        raise PromotionRefused(
            f"somebody moved the champion of {registry.model_name} from {_version(before)} to "
            f"{_version(now)} while {candidate} was before the gate; promote again, to be compared with the new "
            "one.")


def _cards(chosen: dict[str, Any], front: dict[str, Any], evaluation: dict[str, Any], folder: Path) -> dict[str, Path]:
    for name, make in zip(CARDS, (model_card, card_html)):
        write_text(folder / name, make(chosen, front, evaluation))
    return {name: folder / name for name in CARDS}


def _package(chosen: dict[str, Any], front: dict[str, Any], out: Path, cards: dict[str, Path],
              experiment: str, artifact_root: Path | None) -> ModelPackage:
    """The graph, the weights and training record that the next gate needs for attacks with gradients, and the cards."""
    weights = out / chosen["weights"]
    files = {results.WEIGHTS: weights, results.TRAINING: weights.parent / results.TRAINING, **cards}
    example = np.zeros((2, *front["data"]["image_shape"]), dtype=np.float32)
    return ModelPackage(out / chosen["onnx"], example, files, chosen["mlflow_run_id"], experiment, artifact_root)


def _incomparable(registry: MlflowRegistry, champion: Version, front: dict[str, Any],
                  cache: Path) -> tuple[str | None, Path]:
    """Why the champion cannot be attacked on these images, None where it can; and the folder with its files."""
    place = cache / "champions" / digest(file_tags(champion.tags) or champion.number)[:32]
    name = f"version {champion.number}"
    advice = "give --allow-incomparable to promote without the comparison"
    fingerprint = champion.tags.get("data_fingerprint", "unknown")
    if fingerprint != front["data"]["fingerprint"]:
        return (f"the champion ({name}) was trained on other data (fingerprint {fingerprint[:12]} instead of "
                f"{front['data']['fingerprint'][:12]}), so the two cannot be compared on the same images; "
                f"{advice}"), place
    try:
        download(registry, champion, place)
    except Damaged as error:
        return f"the champion ({name}) cannot be attacked again: {str(error).rstrip('.')}; {advice}", place
    if not all((place / file).exists() for file in (results.WEIGHTS, results.TRAINING)):
        return (f"the champion ({name}) was registered without its weights, so it cannot be attacked again; {advice}, "
                "or register it again with its weights by promoting it from its own search"), place
    return None, place


def _has_files(tags: dict[str, str]) -> bool:

    return all(FILE_TAG + name in tags for name in (results.WEIGHTS, results.TRAINING))


def _version(number: str | None) -> str:
    return "no version" if number is None else f"version {number}"
