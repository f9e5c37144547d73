"""Training steps with PGD-10 against peers: same network, images and batch size, in one interleaved run."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from rich.progress import track
from rich.table import Table

from benchmarks.training import peers
from benchmarks.training.contestants import Contestant, Setting, Trainer
from benchmarks.training.ours import ours
from parapet.config import TrainingConfig
from parapet.genome import Genome
from parapet.training.recipe import Recipe

EPS, STEPS = 0.3, 10
# By what factor a step of ours has to be faster, and where.
TO_REACH = {"cpu": 1.3, "cuda": 2.0}
# Network: its genes, and batches of a turn, so that one takes about a second on 2 cores.
_NETWORKS = {"plain 16x2": ({"backbone": "plain", "width": 16, "depth": 2}, 4),
             "SmallCNN": ({"backbone": "small_cnn"}, 1)}
_LOSSES = {"TRADES": {"loss": "trades", "trades_beta": 1.0}, "fast_adversarial": {"loss": "pgd"}}
_RECIPE = {"steps": STEPS, "eps_ratio": 1.0, "learning_rate": 0.01, "weight_decay": 0.0}


@dataclass(frozen=True)
class Contest:
    """One network with one loss, who trains it, and by what factor ours has to be faster than each other."""

    name: str
    genome: Genome
    others: dict[str, Trainer] = field(default_factory=dict)
    to_reach: float = TO_REACH["cpu"]
    batches: int = 1


def contests(names: Sequence[str] = (), *, device: str = "cpu") -> list[Contest]:
    """Each network with the loss of each peer, or those contests whose network or peer is among `names`."""
    return [Contest(f"{network}, {_LOSSES[peer]['loss']}", Genome(**genes, **_LOSSES[peer], **_RECIPE).canonical(),
                    {peer: peers.TRAINERS[peer]}, TO_REACH[device], batches)
            for network, (genes, batches) in _NETWORKS.items() for peer in peers.PEERS
            if not names or network in names or peer in names]


@dataclass
class Measured:
    """One contest: seconds of each turn of `images` images, those of one round one after the other.

    Ratios are medians over the rounds, so that a machine that is slow for a while favours nobody. `worked`: seconds
    of all threads on a CPU; where others keep the cores busy, who waited for a core is told from who worked.
    """

    contest: Contest
    images: int
    taken: dict[str, list[float]]
    worked: dict[str, list[float]] = field(default_factory=dict)
    flops: int = 0
    peak: float = 0.0

    def images_a_second(self, name: str) -> float:
        """Images that "ours" or a peer trains on in a second."""
        return self.images / statistics.median(self.taken[name])

    def ratio(self, name: str) -> float:
        """How many times as fast as `name` ours is."""
        return _ratio(self.taken, name)

    def work_ratio(self, name: str) -> float:
        """How many times the CPU time of ours `name` needs."""
        return _ratio(self.worked, name) if self.worked else math.nan

    @property
    def training_flops(self) -> int:
        """FLOPs of training on one image once, as the loop counts them."""
        return Recipe.of(self.contest.genome, TrainingConfig()).flops(self.flops)

    @property
    def share_of_peak(self) -> float:
        """What ours asks of the device in FLOP/s, over what it reaches in a matrix product."""
        return self.images_a_second("ours") * self.training_flops / self.peak if self.peak else 0.0

    @property
    def peers(self) -> list[str]:
        """Who else was timed."""
        return [name for name in self.taken if name != "ours"]

    def verdict(self) -> str:
        """"met" or what is missed, against what is to be reached."""
        missed = [f"{name} {self.ratio(name):.2f} x < {self.contest.to_reach:g}" for name in self.peers
                  if self.ratio(name) < self.contest.to_reach]
        return "; ".join(missed) or ("met" if self.peers else "no peer")

    def to_dict(self) -> dict[str, Any]:
        """The raw record, for JSON."""
        return {"contest": self.contest.name, "genome": self.contest.genome.to_dict(), "images": self.images,
                "seconds": self.taken, "cpu_seconds": self.worked,
                "images_a_second": {name: self.images_a_second(name) for name in self.taken},
                "peers": {name: self.ratio(name) for name in self.peers},
                "cpu_seconds_ratio": {name: self.work_ratio(name) for name in self.peers} if self.worked else {},
                "to_reach": self.contest.to_reach,
                "forward_flops": self.flops, "training_flops": self.training_flops, "peak": self.peak,
                "share_of_peak": self.share_of_peak, "verdict": self.verdict()}


def measure(contest: Contest, setting: Setting, *, rounds: int, with_peers: bool = True) -> Measured:
    """Ours and the peers train in turn, `rounds` times, each in a process of its own; who begins alternates."""
    trainers = {"ours": ours, **(contest.others if with_peers else {})}
    taken, worked = ({name: [] for name in trainers} for _ in range(2))
    with ExitStack() as processes:
        everyone = [(name, processes.enter_context(Contestant(setting, contest.genome, trainer)))
                    for name, trainer in trainers.items()]
        peaks = []
        for turn in track(range(rounds), contest.name, transient=True):
            flops, peak = everyone[0][1].machine()
            peaks.append(peak)
            for name, contestant in everyone if turn % 2 == 0 else everyone[::-1]:
                for seconds, kept in zip(contestant.turn(), (taken, worked)):
                    kept[name].append(seconds)
    return Measured(contest, setting.images, taken, worked, flops, max(peaks))


def _ratio(seconds: dict[str, list[float]], name: str) -> float:
    return statistics.median(other / one for one, other in zip(seconds["ours"], seconds[name]))


def table(results: Sequence[Measured], title: str) -> Table:
    """Images a second of everyone, how many times as fast ours is (by the clock, and by CPU time), what was to be
    reached, share of the peak."""
    drawn = Table(title=title, title_justify="left")
    for heading in ("network, loss", "who", "images/s", "ours is x as fast", "x CPU time", "to reach", "of peak",
                    "verdict"):
        drawn.add_column(heading, justify="left" if heading in ("network, loss", "who", "verdict") else "right")
    for result in results:
        drawn.add_row(result.contest.name, "ours", f"{result.images_a_second('ours'):,.0f}", "", "", "",
                      f"{result.share_of_peak:.0%}", result.verdict())
        for name in result.peers:
            drawn.add_row("", name, f"{result.images_a_second(name):,.0f}", f"{result.ratio(name):.2f}",
                          f"{result.work_ratio(name):.2f}", f"{result.contest.to_reach:g}", "", "")
    return drawn
