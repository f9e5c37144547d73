"""`parapet attack`: evaluate any model, and show its accuracy under each attack."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from parapet.cli.arguments import pathname
from parapet.cli.numbers import LARGEST_BATCH, LARGEST_SEED, MOST_IMAGES, MOST_THREADS, optional_whole, radius, whole
from parapet.cli.tables import show
from parapet.devices import resolve
from parapet.disk.replacement import check_folder
from parapet.errors import InputError
from parapet.processes import child
from parapet.progress import Progress
from parapet.quoting import name as named
from parapet.report.wording import count

EXAMPLES = """examples:
  parapet attack --model artifacts/search/candidates/ID/model.safetensors --data artifacts/dataset --eps 0.2 --audit
  parapet attack --model net.pt2 --trust --data images.npz --eps 8/255 --attacks fgsm,pgd_margin,apgd_t
  parapet attack --model my_package.nets:resnet --data cifar.npz --norm l2 --eps 0.5 --suite standard
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """What `parapet attack` takes."""
    parser.add_argument("--model", required=True, help="weights of Parapet (.safetensors), a program saved with "
                        "torch.export (.pt2, with --trust), or package.module:factory")
    parser.add_argument("--data", type=pathname, required=True, metavar="PATH",
                        help="folder of a prepared data set, or an .npz with images and labels")
    parser.add_argument("--eps", required=True, help="radius, for example 0.3 or 8/255; pixels lie in [0, 1]")
    parser.add_argument("--norm", default="linf", choices=("linf", "l2"), help="default: linf")
    parser.add_argument("--suite", default="standard", help="search, full, or AutoAttack's standard, plus, rand, rapid "
                        "(default: standard)")
    parser.add_argument("--attacks", metavar="NAMES", help="instead of a suite: names with commas, for example "
                        "fgsm,pgd_ce,square; a wrong name lists them all")
    parser.add_argument("--also", metavar="NAMES", help="attacks before those of the suite, for example "
                        "pgd_100,pgd_margin_10,deepfool; an image counts as broken if any attack breaks it")
    parser.add_argument("--surrogate", action="append", default=[], metavar="MODEL", help="also attack by transfer "
                        "from this model; may be given several times")
    parser.add_argument("--split", default="test", help="which split of a prepared data set (default: test)")
    parser.add_argument("--images", metavar="N", help="attack N images, drawn by seed and stratified by label "
                        "(default: all)")
    parser.add_argument("--audit", action="store_true", help="audit the model too: detect gradient "
                        "masking and weak attacks")
    parser.add_argument("--audit-images", default=128, metavar="N", help="audit N of the images, "
                        "drawn in the same way (default: 128)")
    parser.add_argument("--batch-size", default=256, metavar="N", help="default: 256")
    parser.add_argument("--seed", default=0, help="default: 0")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 (default: auto)")
    parser.add_argument("--threads", metavar="N", help="CPU threads (default: all)")
    parser.add_argument("--out", type=pathname, default=Path("runs/attack"), metavar="DIR", help="receives "
                        "evaluation.json, and the state from which a killed attack resumes (default: "
                        "runs/attack)")
    parser.add_argument("--save-images", type=pathname, metavar="FILE", help="save the adversarial images to "
                        "this .npz file")
    parser.add_argument("--trust", action="store_true", help="load the .pt2, which may run code: only if you know "
                        "where it comes from")


def attack(options: argparse.Namespace) -> None:
    """Attack, write evaluation.json, print a table."""
    from parapet.steps import attack as step

    audited = whole("--audit-images", options.audit_images, 1, MOST_IMAGES)
    threads = optional_whole("--threads", options.threads, 1, MOST_THREADS)
    request = step.Request(
        model=options.model, data=options.data, eps=radius("--eps", options.eps), norm=options.norm,
        split=options.split, images=optional_whole("--images", options.images, 1, MOST_IMAGES), suite=options.suite,
        attacks=_names("--attacks", options.attacks), also=_names("--also", options.also),
        surrogates=tuple(options.surrogate), batch_size=whole("--batch-size", options.batch_size, 1, LARGEST_BATCH),
        seed=whole("--seed", options.seed, 0, LARGEST_SEED),
        device=resolve(options.device, workers=1, threads=1)[0], trust=options.trust,
        audit_images=audited if options.audit else 0)
    check_folder(options.out)
    if options.save_images:
        _check_target(options.save_images)
    # package.module:factory finds the user's own code below the working directory.
    task = step.task(request, options.out, save_images=options.save_images, threads=threads, modules=Path.cwd())
    with Progress("attack", 100, "%") as progress:
        result = child.supervised(task, request.device,
                                  on_progress=lambda text, share: progress.update(100 * share, text))
        progress.update(100, "done")
    show(_attacks(result))
    if result["audit"]:
        show(_audit(result["audit"]))
    print(_drawn(result))
    print(_summary(result))
    print(f"written to {options.out / step.RECORD}")


def _attacks(result: dict[str, Any]) -> Table:
    record = result["evaluation"]
    table = Table(title=f"{record['n']:,} images, {_threat(record)}, seed {result['seed']}", title_justify="left",
                  box=SIMPLE_HEAD)
    for heading in ("attack", "met", "alone", "left", "95 % interval", "gradients", "queries", "distance", "seconds"):
        table.add_column(heading, justify="left" if heading == "attack" else "right", no_wrap=True)
    clean = record["outcomes"]["clean"]
    table.add_row("none", f"{len(clean):,}", f"{record['clean_accuracy']:.1%}", "",
                  _interval(record["clean_interval"]))
    for name, attack in record["attacks"].items():
        table.add_row(name, f"{attack['attacked']:,}", _share(attack["alone"]), _share(attack["left"]),
                      _interval(attack["interval"]),
                      _count(attack["gradient_evaluations"]), _count(attack["queries"]),
                      "" if attack["median_distance"] is None else f"{attack['median_distance']:.3g}",
                      f"{attack['seconds']:.1f}")
    table.add_section()
    table.add_row("[bold]every attack", "", "", f"[bold]{record['robust_accuracy']:.1%}",
                  _interval(record["robust_interval"]), "", "", "", f"{record['seconds']:.1f}")
    notes = ["alone: share classified correctly under this attack alone, which met every image that was correct before",
             "left: share classified correctly under it and all attacks above, of which it met the unbroken images",
             "distance: median distance of the adversarial images that it found"]
    table.caption, table.caption_justify = "\n".join(notes), "left"
    return table


def _audit(report: dict[str, Any]) -> Table:
    table = Table(title=f"audit: {report['verdict']}", title_justify="left", box=SIMPLE_HEAD)
    for heading in ("check", "verdict", "what to do"):
        table.add_column(heading, no_wrap=heading != "what to do")
    # "pass" is a verdict.
    colours = {"pass": "green", "warn": "yellow", "fail": "red"}  # nosec B105
    for check in report["checks"]:
        table.add_row(check["id"], f"[{colours[check['verdict']]}]{check['verdict']}", check["advice"])
    return table


def _summary(result: dict[str, Any]) -> str:
    record, report = result["evaluation"], result["audit"]
    text = (f"robust accuracy {record['robust_accuracy']:.1%} ({_interval(record['robust_interval'])}, n = "
            f"{record['n']:,}), clean {record['clean_accuracy']:.1%}; {_threat(record)}")
    if not report:
        text += "\nNot audited: --audit detects gradient masking and weak attacks."
    elif report["verdict"] == "fail":
        text += "\nThe audit failed: this is the lowest number that was found, and the model may be less robust still."
    if report and report["settled"]["by"] is not None:
        text += f"\n{report['settled']['sentence']}"
    return text


def _drawn(result: dict[str, Any]) -> str:
    from parapet.data.sampling import Drawn  # numpy, which --help does without

    drawn = Drawn(**result["images"])
    text = f"on {drawn}"
    if result["audit"]:
        text += f"; audited on {Drawn(len(result['audit']['rows']), drawn.count, result['seed'])}"
    return text + "."


def _threat(record: dict[str, Any]) -> str:
    return f"{ {'linf': 'L-inf', 'l2': 'L2'}[record['threat']['norm']]}, eps = {record['threat']['eps']:.4g}"


def _interval(bounds: list[float]) -> str:
    return f"{100 * bounds[0]:.1f}-{100 * bounds[1]:.1f} %"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _count(value: int | None) -> str:
    return "" if value is None else count(value)


def _names(option: str, text: str | None) -> tuple[str, ...]:
    if text is None:
        return ()
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise InputError(f"{option} is empty; name attacks with commas, for example fgsm,pgd_ce,square.")
    return names


def _check_target(path: Path) -> None:
    if path.suffix != ".npz" or path.is_dir():
        raise InputError(f"--save-images is {named(str(path))}; it must be a file that ends in .npz.")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise InputError(f"--save-images is {path}, and {path.parent} is no folder that can be written to.")
