"""Whole attacks against their bare cost and against peers: same model, images and budget, in one interleaved run."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from rich.progress import track
from rich.table import Table

from benchmarks.attacks.contestants import Contestant, Setting
from benchmarks.attacks.contests import Contest
from benchmarks.attacks.replay import Pass


@dataclass
class Measured:
    """One contest: seconds of each round, and the share of images that survive (within eps) under each.

    Ratios are medians over the rounds of what was timed one after the other, so that a machine that is slow for a
    while does not favour anyone.
    """

    contest: Contest
    taken: dict[str, list[float]]
    robust: dict[str, float]
    passes: list[Pass]
    flops: int = 0
    peak: float = 0.0

    @property
    def images_a_second(self) -> float:
        """Images that went through the network, forward or backward, in each second of ours."""
        return sum(one.images * (1 + one.backward) for one in self.passes) / self.seconds("ours")

    @property
    def share_of_peak(self) -> float:
        """What ours asks of the device in FLOP/s, over what it reaches in a matrix product; a backward pass with
        respect to the images alone takes as many FLOPs as a forward pass."""
        return self.images_a_second * self.flops / self.peak if self.peak else 0.0

    def seconds(self, name: str) -> float:
        """Median seconds of "ours", "bare" or a peer."""
        return statistics.median(self.taken[name])

    def ratio(self, name: str, to: str = "ours") -> float:
        """How many times longer `name` takes than `to`."""
        return statistics.median(one / other for one, other in zip(self.taken[name], self.taken[to]))

    @property
    def peers(self) -> list[str]:
        """Who else was timed."""
        return [name for name in self.taken if name not in ("ours", "bare")]

    def verdict(self) -> str:
        """"met" or what is missed, against what is to be reached."""
        missed = []
        over = self.ratio("ours", "bare")
        if self.contest.over_bare and over > self.contest.over_bare:
            missed.append(f"{over:.2f} x bare > {self.contest.over_bare:g}")
        missed += [f"{name} {self.ratio(name):.2f} x < {factor:g}" for name, factor in self.contest.over_peer.items()
                   if name in self.peers and self.ratio(name) < factor]
        return "; ".join(missed) or "met"

    def to_dict(self) -> dict[str, Any]:
        """The raw record, for JSON."""
        return {"attack": self.contest.name, "seconds": self.taken, "robust": self.robust,
                "images_a_second": self.images_a_second, "share_of_peak": self.share_of_peak,
                "over_bare": self.ratio("ours", "bare"), "peers": {name: self.ratio(name) for name in self.peers},
                "images_forward": sum(one.images for one in self.passes),
                "images_backward": sum(one.images * one.backward for one in self.passes), "verdict": self.verdict()}


def measure(contest: Contest, setting: Setting, *, rounds: int, with_peers: bool = True) -> Measured:
    """Run ours, its bare cost and the peers in turn, `rounds` times, each in a process of its own."""
    names = list(contest.others) if with_peers else []
    taken: dict[str, list[float]] = {name: [] for name in ("bare", "ours", *names)}
    robust = {}
    with ExitStack() as processes:
        everyone = {}
        for name in ("ours", *names):
            everyone[name] = processes.enter_context(Contestant(setting, contest.name, name))
            everyone[name].ready()  # who still imports or warms up takes the cores from whom is measured
        passes = everyone["ours"].record()
        flops, peak = everyone["ours"].machine()
        for _ in track(range(rounds), contest.name, transient=True):
            taken["bare"].append(everyone["ours"].bare())
            for name, contestant in everyone.items():
                seconds, robust[name] = contestant.attack()
                taken[name].append(seconds)
    return Measured(contest, taken, robust, passes, flops, peak)


def table(results: Sequence[Measured], title: str) -> Table:
    """Seconds, ratio to the bare cost, images through the network in a second and the share of the device's peak that
    this is, the peers' seconds and what they are to ours, robust accuracies, verdict."""
    drawn = Table(title=title, title_justify="left")
    for heading in ("attack", "ours s", "bare s", "x bare", "passes/s", "of peak", "robust",
                    "peer: seconds, x ours, robust", "to reach"):
        drawn.add_column(heading, justify="left" if heading in ("attack", "to reach") else "right")
    for result in results:
        others = "\n".join(f"{name}: {result.seconds(name):.2f}, {result.ratio(name):.2f} x, {result.robust[name]:.1%}"
                           for name in result.peers)
        drawn.add_row(result.contest.name, f"{result.seconds('ours'):.2f}", f"{result.seconds('bare'):.2f}",
                      f"{result.ratio('ours', 'bare'):.2f}", f"{result.images_a_second:,.0f}",
                      f"{result.share_of_peak:.0%}", f"{result.robust['ours']:.1%}", others, result.verdict())
    return drawn
