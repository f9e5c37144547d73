"""`python -m benchmarks.attacks {nets,speed,agreement,rapid,budget}`: Parapet's attacks beside everyone else's."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from rich.console import Console

from benchmarks.attacks import nets, peers
from benchmarks.machine import hardware
from parapet.cli import guarded
from parapet.disk.files import write_json


def _nets(options: argparse.Namespace) -> None:
    for name in options.names or nets.NETS:
        data = nets.prepare(nets.published(), options.nets, nets.NETS[name].data)
        nets.train_net(name, data, options.nets, device=options.device)


def _speed(options: argparse.Namespace) -> None:
    from benchmarks.attacks import contests, speed
    from benchmarks.attacks.contestants import Setting

    commits = {} if options.alone else peers.find()
    setting = Setting(options.nets / f"{options.net}.safetensors", options.nets / "dataset", options.images, nets.EPS,
                      options.device, options.threads)
    results = []
    for contest in contests.contests(nets.EPS, options.names, device=torch.device(options.device).type):
        results.append(speed.measure(contest, setting, rounds=options.rounds, with_peers=not options.alone))
        print(f"{contest.name}: {results[-1].seconds('ours'):.2f} s, {results[-1].ratio('ours', 'bare'):.2f} x bare; "
              f"{results[-1].verdict()}", flush=True)
        write_json(options.results / f"speed-{options.net}-{torch.device(options.device).type}.json", {
            "net": options.net, "n": options.images, "eps": nets.EPS, "seed": 0, "hardware": hardware(options.device),
            "peers": commits, "attacks": [result.to_dict() for result in results]})
    Console(width=150).print(speed.table(results, f"{options.net}, {options.images} MNIST images, L-inf "
                                         f"{nets.EPS:g}, median of {options.rounds}; {hardware(options.device)}"))


def _agreement(options: argparse.Namespace) -> None:
    from benchmarks.attacks import agreement

    commits = peers.find(("official", "foolbox"))
    agreement.run(options.nets, options.names or list(nets.COMPARED), options.images, options.device, commits,
                  hardware(options.device), options.results)


def _rapid(options: argparse.Namespace) -> None:
    from benchmarks.attacks import rapid

    rapid.run(options.nets, options.names or list(nets.NETS), peers.find(("official",)), hardware(options.device),
              options.results, options.images, options.again)


def _budget(options: argparse.Namespace) -> None:
    from benchmarks.attacks import budget

    budget.run(options.nets, options.names or list(nets.NETS), hardware(options.device), options.results,
               options.images or budget.IMAGES)


def main() -> int:
    """Read the options and run one of the comparisons."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.attacks", description=__doc__)
    parser.add_argument("what", choices=("nets", "speed", "agreement", "rapid", "budget"))
    parser.add_argument("names", nargs="*", help="nets (nets, agreement) or attacks (speed); default: all")
    parser.add_argument("--nets", type=Path, default=Path("runs/nets"), metavar="DIR", help="default: runs/nets")
    parser.add_argument("--net", default=nets.TIMED, help="the net whose attacks are timed (default: %(default)s)")
    parser.add_argument("--images", type=int, default=None, help="default: 256 for speed, 1000 for agreement, "
                        "for rapid 1000 of MNIST and 250 of CIFAR-10, 300 for budget")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--again", action="store_true", help="rapid: compare anew what was compared")
    parser.add_argument("--alone", action="store_true", help="speed without peers: ours and the bare cost")
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"), metavar="DIR")
    options = parser.parse_intermixed_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.what in ("speed", "agreement"):
        options.images = options.images or (256 if options.what == "speed" else 1000)
    work = {"nets": _nets, "speed": _speed, "agreement": _agreement, "rapid": _rapid, "budget": _budget}[options.what]
    return guarded("benchmarks.attacks", lambda: work(options))


if __name__ == "__main__":
    sys.exit(main())
