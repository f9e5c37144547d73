"""`parapet select`, `promote`, `rollback` and `serve`: from a finished front to a model that answers requests."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from parapet.cli.arguments import pathname
from parapet.cli.project import lasting
from parapet.cli.tracking import gateway, registry_uri
from parapet.config import load
from parapet.data.info import read_info
from parapet.devices import resolve
from parapet.errors import InputError
from parapet.report import wording
from parapet.store.front_file import read as read_front

WISHES = ('"knee", weights such as "weights: robust_accuracy 3, flops 1", or constraints such as "robust_accuracy >= '
          '0.6, latency_ms <= 0.2, then fewest FLOPs"')


def select_options(parser: argparse.ArgumentParser) -> None:
    """What `parapet select` takes."""
    parser.add_argument("wish", nargs="?", metavar="WISH", help=f"{WISHES} (default: promotion.select)")
    parser.add_argument("--out", type=pathname, default=Path("artifacts"), metavar="DIR",
                        help="folder with front.json (default: artifacts)")
    parser.add_argument("--json", action="store_true", help="print its entry of front.json and the reason as JSON")


def promote_options(parser: argparse.ArgumentParser) -> None:
    """What `parapet promote` takes."""
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--select", metavar="WISH", help=f"{WISHES} (default: promotion.select)")
    chosen.add_argument("--candidate", metavar="ID", help="this member of the front")
    chosen.add_argument("--to", metavar="NAME", help="copy the champion to the registered model NAME, that of another "
                        "environment, as its champion")
    parser.add_argument("--out", type=pathname, default=Path("artifacts"), metavar="DIR",
                        help="folder with front.json (default: artifacts)")
    parser.add_argument("--dataset", type=pathname, metavar="DIR", help="prepared data set (default: OUT/dataset)")
    parser.add_argument("--cache", type=lasting, metavar="DIR",
                        help="candidate cache (default: OUT/.parapet where it exists, else .parapet)")
    parser.add_argument("--allow-incomparable", action="store_true", help="promote although the champion cannot be "
                        "attacked on the same images: it was trained on other data, or registered without weights")
    parser.add_argument("--occasion", default="", metavar="TEXT", help="the seed of the attack on the graph is "
                        "derived from this text: another text, such as a date, attacks again with another seed")


def rollback_options(parser: argparse.ArgumentParser) -> None:
    """What `parapet rollback` takes."""
    _model(parser)


def serve_options(parser: argparse.ArgumentParser) -> None:
    """What `parapet serve` takes."""
    parser.add_argument("version", nargs="?", default="champion", metavar="ALIAS|VERSION",
                        help="champion, previous, challenger, or the number of a version (default: champion)")
    _model(parser)
    parser.add_argument("--host", default="127.0.0.1", help="default: 127.0.0.1, only this machine")
    parser.add_argument("--port", type=int, default=5001, help="0 takes any free port (default: 5001)")


def select(options: argparse.Namespace) -> None:
    """One member of the front, its numbers and the reason."""
    from parapet.promotion.choice import choose
    from parapet.promotion.gate import doubt

    wish = load(options.params).promotion.select if options.wish is None else options.wish
    front = read_front(options.out / "front.json")
    chosen, reason = choose(front, wish)
    if options.json:
        print(json.dumps({"reason": reason, "candidate": chosen}, indent=1))
        return
    print(f"{chosen['id']}  {chosen['description']}")
    for name in ("validation", "test"):
        print(f"{name:<10}  {_accuracies(chosen[name])}")
    print(f"{'cost':<10}  {wording.count(chosen['flops'])} FLOPs, {wording.count(chosen['params'])} parameters, median "
          f"latency {wording.milliseconds(chosen['latency_ms']['p50'])}{doubt(chosen)}; audit "
          f"{chosen['audit']['verdict']}")
    print(reason)


def promote(options: argparse.Namespace) -> None:
    """Register, pass the gate, move the champion; or copy the champion to another environment."""
    if options.to is not None:
        _copy(options)
        return
    from parapet.steps import promotion as step

    if options.dataset is not None:
        read_info(options.dataset)
    params, where, kept = load(options.params), gateway(), options.out / ".parapet"
    outcome = step.run(params, options.out, uri=where.uri, wish=options.select, candidate=options.candidate,
                       dataset=options.dataset, artifact_root=where.artifacts,
                       cache=options.cache or (kept if kept.exists() else lasting(".parapet")),
                       devices=resolve(params.device, workers=2, threads=params.search.threads),
                       allow_incomparable=options.allow_incomparable, occasion=options.occasion, tell=_tell)
    print(outcome["reason"])
    print(wording.reattacked(outcome["reattack"]))
    if not outcome["moved"]:
        changed = "its tags and description are now today's" if outcome["refreshed"] else "nothing was changed"
        print(f"it is champion of {params.promotion.model_name} already, as version {outcome['version']}; {changed}.")
        return
    if outcome["comparison"]:
        print(_pairs(outcome["comparison"], outcome["previous"]))
    print(f"version {outcome['version']} of {params.promotion.model_name} is now champion"
          + (f"; `parapet rollback` restores version {outcome['previous']}." if outcome["previous"] else "."))


def rollback(options: argparse.Namespace) -> None:
    """Make the previous champion the champion again."""
    from parapet.promotion import rollback as step

    params = load(options.params)
    name = params.promotion.model_name if options.model is None else options.model
    outcome = step.run(params, uri=registry_uri(), model_name=name, tell=_tell)
    before = (f"version {outcome['previous']} is previous; another rollback restores it." if outcome["previous"]
              else "the version that was champion has been deleted.")
    print(f"version {outcome['champion']} of {name} is champion again; {before}")


def serve(options: argparse.Namespace) -> None:
    """Answer prediction requests with a version of the registry until Ctrl-C."""
    from parapet.registry.mlflow_registry import MlflowRegistry
    from parapet.registry.serving import find, serve

    name = load(options.params).promotion.model_name if options.model is None else options.model
    if not 0 <= options.port < 65536:
        raise InputError(f"--port is {options.port}; it must lie in 0 to 65535.")
    registry = MlflowRegistry(registry_uri(), name)
    version = find(registry, options.version)

    def ready(address: str) -> None:
        print(f"version {version.number} of {name} answers at {address}; Ctrl-C ends it. One request, with images "
              f"(N, C, H, W) in [0, 1]:\ncurl {address}/invocations -H 'Content-Type: application/json' -d "
              "'{\"inputs\": IMAGES}'", flush=True)
    serve(registry, version, host=options.host, port=options.port, ready=ready)


def _model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", metavar="NAME", help="registered model (default: promotion.model_name)")


def _copy(options: argparse.Namespace) -> None:
    from parapet.promotion.environments import copy_champion

    params = load(options.params)
    outcome = copy_champion(params, options.to, uri=registry_uri(), tell=_tell)
    source = f"version {outcome['source']} of {params.promotion.model_name}"
    if outcome["moved"]:
        print(f"{source} is now champion of {options.to}, as its version {outcome['version']}.")
    else:
        print(f"{source} is champion of {options.to} already, as its version {outcome['version']}; nothing was "
              "changed.")


def _accuracies(block: dict[str, Any]) -> str:
    parts = [f"{name} {wording.percent(block[f'{name}_accuracy'])} ({wording.interval(block[f'{name}_interval'])})"
             for name in ("clean", "robust")]
    return f"{', '.join(parts)}, n = {block['n']:,}"


def _pairs(comparison: dict[str, Any], champion: str) -> str:
    parts = [f"{name} {pairs['only_challenger']:,} against {pairs['only_champion']:,} (p = {pairs['p']:.2g})"
             for name, pairs in comparison.items()]
    return (f"not worse than version {champion} on the same {comparison['robust']['n']:,} test images; right with one "
            f"alone: {', '.join(parts)}.")


def _tell(text: str) -> None:
    print(text, flush=True)
