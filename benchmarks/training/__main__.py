"""`python -m benchmarks.training`: images a second of our training step with PGD-10, against published scripts."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console

from benchmarks.attacks import nets
from benchmarks.machine import hardware
from benchmarks.training import peers, speed
from benchmarks.training.contestants import Setting
from parapet.cli import guarded
from parapet.disk.files import write_json


def _speed(options: argparse.Namespace) -> None:
    commits = {} if options.alone else peers.find()
    nets.prepare(nets.published(), options.data)
    kind, machine = torch.device(options.device).type, hardware(options.device)
    results = []
    for contest in speed.contests(options.names, device=kind):
        setting = Setting(options.data / "dataset", options.batch_size, options.batches or contest.batches, speed.EPS,
                          options.device, options.threads)
        results.append(speed.measure(contest, setting, rounds=options.rounds, with_peers=not options.alone))
        # One machine, one peak: the best that it showed in any contest.
        peak = max(result.peak for result in results)
        results = [replace(result, peak=peak) for result in results]
        print(f"{contest.name}: {results[-1].images_a_second('ours'):,.0f} images/s; {results[-1].verdict()}",
              flush=True)
        write_json(options.results / f"training-{kind}.json", {
            "batch_size": options.batch_size, "eps": speed.EPS, "steps": speed.STEPS, "seed": 0, "hardware": machine,
            "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY", "default"), "peers": commits,
            "contests": [result.to_dict() for result in results]})
    Console(width=130).print(speed.table(results, f"Training with PGD-{speed.STEPS}, MNIST, batches of "
                                         f"{options.batch_size}, median of {options.rounds} rounds\n{machine}"))


def main() -> int:
    """Read the options and run the comparison."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__)
    parser.add_argument("names", nargs="*", help="networks or peers whose contests are run; default: all")
    parser.add_argument("--data", type=Path, default=Path("runs/nets"), metavar="DIR",
                        help="where the data set is prepared (default: runs/nets)")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--batches", type=int, default=None, help="of a turn; default: about a second's on 2 cores")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--alone", action="store_true", help="without peers: ours and its share of the peak")
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"), metavar="DIR")
    options = parser.parse_intermixed_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    return guarded("benchmarks.training", lambda: _speed(options))


if __name__ == "__main__":
    sys.exit(main())
