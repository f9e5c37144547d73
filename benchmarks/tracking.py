"""What tracking costs: a search of 200 candidates with 50 epochs each, told to an outbox and sent to MLflow.

    python -m benchmarks.tracking

Told: what the search waits for. Sent: what the thread beside it needs, on SQLite without a server. The thread's load
on the cores is what a training beside it loses.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

from parapet.cli import guarded
from parapet.genome import Genome
from parapet.tracking import BackgroundSender, Outbox, flush

CANDIDATES, EPOCHS, LIMIT = 200, 50, 20.0
_WEIGHTS, _GRAPH = 120_000, 150_000


def tell(outbox: Outbox, files: Path, candidates: int = CANDIDATES, epochs: int = EPOCHS) -> list[float]:
    """A whole search; the seconds that each candidate's telling took."""
    outbox.search("benchmark", "digits linf 0.2", {"search": {"population": 8, "generations": candidates // 8}},
                  {"git_revision": "0" * 40}, {"name": "digits", "fingerprint": "f" * 64})
    seconds = []
    for index in range(candidates):
        artifacts = {}
        for name, size in (("weights", _WEIGHTS), ("onnx", _GRAPH)):
            artifacts[name] = files / f"{name}-{index}"
            artifacts[name].write_bytes(index.to_bytes(4, "big") * (size // 4))
        started = time.perf_counter()
        outbox.candidate("benchmark", _record(index), _curves(index, epochs), artifacts, {"undefended": "false"})
        seconds.append(time.perf_counter() - started)
    outbox.front("benchmark", [_name(index) for index in range(12)])
    outbox.finish("benchmark", {"hypervolume": 0.5}, {})
    return seconds


def _name(index: int) -> str:
    return f"{index:012x}"


def _record(index: int) -> dict:
    return {"id": _name(index), "genome": Genome().to_dict(), "generation": index // 8, "seed": index, "looks": 1,
            "fidelity": {"rung": 0, "epochs": EPOCHS, "full": True}, "status": "feasible", "reason": None,
            "validation": {"n": 1000, "clean_accuracy": 0.9, "clean_interval": [0.88, 0.92], "robust_accuracy": 0.5,
                           "robust_interval": [0.47, 0.53], "attacks": {name: {"alone": share, "left": None}
                                       for name, share in (("fgsm", 0.6), ("pgd_ce", 0.52), ("pgd_dlr", 0.5))}},
            "audit": {"verdict": "pass", "reasons": []}, "flops": 100_000 + index, "params": 10_000,
            "training_seconds": 20.0, "training_flops": 10**12, "training_key": _name(index),
            "evaluation_key": _name(index),
            "latency_ms": {"p50": 0.1, "p90": 0.1, "p99": 0.2, "batch": 1, "threads": 1, "machine": "made up"}}


def _curves(index: int, epochs: int) -> list[dict]:
    return [{"epoch": epoch, "time": 1.7e9 + 20 * index + epoch / 3, "loss": 1 / epoch, "clean_accuracy": 0.9,
             "robust_accuracy": 0.5, "eps": 0.2, "steps": 3, "learning_rate": 0.1} for epoch in range(1, epochs + 1)]


def measure(folder: Path, uri: str, server: bool) -> None:
    """Tell and send into `uri`, and print what it took."""
    files, outbox = folder / "files", Outbox(folder / "outbox")
    files.mkdir(parents=True)
    told = tell(outbox, files)
    # MLflow's import and the making of its tables are paid once a machine, not once a search.
    primer = Outbox(folder / "primer")
    primer.search("primer", "primer", {}, {}, {})
    flush(primer, uri, "primer", None if server else folder / "artifacts")
    started, busy = time.perf_counter(), time.process_time()
    sender = BackgroundSender(outbox, uri, "benchmark", None if server else folder / "artifacts")
    waiting = sender.close(600)
    wall, busy = time.perf_counter() - started, time.process_time() - busy
    where = "a server" if server else "SQLite"
    print(f"{CANDIDATES} candidates with {EPOCHS} epochs of 6 curves, 270 kB of files each, on {where}:\n"
          f"told in {sum(told):.2f} s, {1e3 * statistics.median(told):.1f} ms a candidate, {1e3 * max(told):.1f} ms at "
          f"most;\nsent in {wall:.1f} s of the clock and {busy:.1f} s of the processor, {waiting} left: "
          f"{wall / LIMIT:.2f} of the limit of {LIMIT:g} s")


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tracking", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--uri", metavar="URI", help="a running MLflow server, instead of a new SQLite file")
    options = parser.parse_args()

    def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            home = Path(folder)
            measure(home, options.uri or f"sqlite:///{home / 'mlflow.db'}", options.uri is not None)
    return guarded("benchmarks.tracking", run)


if __name__ == "__main__":
    sys.exit(main())
