"""`parapet archive`: what a search has measured, listed, shown, compared and verified."""

from __future__ import annotations

import argparse
import difflib
import itertools
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from parapet.cli.arguments import pathname
from parapet.cli.numbers import MOST_IMAGES, optional_whole
from parapet.cli.project import lasting
from parapet.cli.tables import show as print_table
from parapet.disk.files import read_json
from parapet.errors import InputError
from parapet.progress import Progress
from parapet.quoting import name as named
from parapet.quoting import quote

if TYPE_CHECKING:
    from parapet.store.records import Record

EXAMPLES = """examples:
  parapet archive list --front
  parapet archive list --rung 0 --feasible --sort robust --limit 20
  parapet archive show 3f2a
  parapet archive compare 3f2a 90cc
  parapet archive verify --archive .parapet/searches/ID/archive.jsonl
"""
DEFAULT = Path("artifacts/search/archive.jsonl")
_DEFAULT_OBJECTIVES = ("clean_error", "robust_error", "flops")
# Which way is better first, by --sort.
_SORTS: dict[str, Callable[[Record], float | None]] = {
    "robust": lambda record: -record.validation.robust_accuracy if record.validation else None,
    "clean": lambda record: -record.validation.clean_accuracy if record.validation else None,
    "flops": lambda record: record.flops,
    "seconds": lambda record: record.training_seconds,
}
_NAMED = 5
_FOLDED_WIDTH = 30


def add_options(parser: argparse.ArgumentParser) -> None:
    """What `parapet archive` takes."""
    # Allowed before and after the action: the default of the second must not overwrite what was given first.
    parser.add_argument("--archive", type=pathname, default=DEFAULT, metavar="FILE", help=f"default: {DEFAULT}")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--archive", type=pathname, default=argparse.SUPPRESS, metavar="FILE",
                        help=f"default: {DEFAULT}")
    actions = parser.add_subparsers(required=True, metavar="ACTION")

    def action(name: str, function: Callable[..., int | None], text: str) -> argparse.ArgumentParser:
        added = actions.add_parser(name, parents=[common], help=text, description=text)
        added.set_defaults(action=function)
        return added

    listed = action("list", list_candidates, "one line for each candidate, with its newest evaluation")
    listed.add_argument("--rung", metavar="N", help="only candidates of this rung; 0 is the cheapest")
    listed.add_argument("--feasible", action="store_true", help="only feasible candidates")
    listed.add_argument("--front", action="store_true", help="only the front: at full fidelity, or at --rung")
    listed.add_argument("--sort", choices=tuple(_SORTS), help="the best first (default: the oldest first)")
    listed.add_argument("--limit", metavar="N", help="only the first N candidates")
    listed.add_argument("--json", action="store_true", help="print the records as a JSON array")
    shown = action("show", show, "everything about one candidate, and its relatives")
    shown.add_argument("id", metavar="ID", help="the id of a candidate, or its first digits")
    shown.add_argument("--json", action="store_true", help="print the record as JSON")
    compared = action("compare", compare, "candidates side by side, and in which objectives each is better")
    compared.add_argument("ids", nargs="+", metavar="ID", help="the ids of two or more candidates, or their first "
                          "digits")
    verified = action("verify", verify, "verify every file that a number comes from: the archive, the cache, and the "
                      "artifacts of the run")
    verified.add_argument("--cache", type=lasting, metavar="DIR",
                          help="candidate cache (default: that of `parapet run` beside the artifacts, else .parapet)")
    verified.add_argument("--dataset", type=pathname, metavar="DIR",
                          help="the prepared data set (default: dataset/ beside the folder of the search)")


def archive(options: argparse.Namespace) -> int | None:
    """Do one action; ends without an error if the reader of the output stops reading (`| head`)."""
    try:
        code: int | None = options.action(options)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return None
    return code


def list_candidates(options: argparse.Namespace) -> None:
    """`parapet archive list`."""
    from parapet.cli import archive_text as text

    options.limit = optional_whole("--limit", options.limit, 1, MOST_IMAGES)
    options.rung = optional_whole("--rung", options.rung, 0, MOST_IMAGES)
    names = _objectives(options.archive)
    total, everything, chosen = _chosen(options, names)
    if options.json:
        print(json.dumps([record.to_json() for record in chosen], indent=1, sort_keys=True))
        return
    _print(text.HEADINGS, [text.row(record) for record in chosen])
    print(f"{len(chosen)} of {total}{' on the front' if options.front else ''}, {everything:,} candidates in "
          f"{options.archive}" + (f"; the front is over {text.objective_names(names)}" if options.front else ""))


def _chosen(options: argparse.Namespace, names: Sequence[str]) -> tuple[int, int, list[Record]]:
    """(how many there are before --limit, candidates in the archive, the records to list)."""
    from parapet.store import archive as journal
    from parapet.store.records import latest, parsed

    _check_there(options.archive)
    lines = journal.places(options.archive)
    _check_lines(options.archive, len(lines))
    places = journal.latest_places(lines)

    def at(wanted: Sequence[tuple[journal.Place, journal.Place]]) -> list[Record]:
        return parsed(options.archive, journal.at_places(options.archive, wanted))

    if options.rung is None and not (options.feasible or options.front or options.sort):
        return len(places), len(places), at(places[:options.limit])
    # A large archive does not fit into memory: first only what the options ask about, then the listed records in full.
    chosen = latest(map(_measured, journal.stream(options.archive)))
    place_of = {record.id: place for place, record in enumerate(chosen)}
    if options.rung is not None:
        rungs = sorted({record.fidelity.rung for record in chosen})
        if options.rung not in rungs:
            raise InputError(f"--rung is {options.rung}; {options.archive} holds candidates of the rungs "
                             f"{', '.join(map(str, rungs)) or '(none at all)'}.")
        chosen = [record for record in chosen if record.fidelity.rung == options.rung]
    if options.feasible:
        chosen = [record for record in chosen if record.is_feasible]
    if options.front:
        from parapet.search.front import front
        from parapet.search.schedule import trained_from_scratch

        # The final front was trained from scratch, which candidates of a cheap rung never are.
        chosen = front(trained_from_scratch(chosen) if options.rung is None else chosen, names, rung=options.rung)
    if options.sort:
        key = _SORTS[options.sort]
        chosen = sorted(chosen, key=lambda record: (key(record) is None, key(record) or 0))
    return len(chosen), len(places), at([places[place_of[record.id]] for record in chosen[:options.limit]])


def _measured(line: dict[str, Any]) -> Record:
    """The fields by which candidates are filtered and ordered: a tenth of a record."""
    from parapet.store.records import Record

    validation, latency = line["validation"], line["latency_ms"]
    return Record.from_json({
        **line, "genome": {}, "audit": None, "training_key": "", "evaluation_key": "", "reason": None,
        "validation": validation and {**validation, "clean_interval": [], "robust_interval": [], "attacks": {}},
        "latency_ms": latency and {"p50": latency["p50"]}})


def show(options: argparse.Namespace) -> None:
    """`parapet archive show`."""
    from parapet.cli import archive_text as text

    records = _candidates(options.archive)
    record = _find(records, options.id, options.archive)
    if options.json:
        print(json.dumps(record.to_json(), indent=1, sort_keys=True))
        return
    print(f"candidate {record.id}")
    table = Table.grid(padding=(0, 0, 0, 2), pad_edge=True)
    for label, value in text.in_full(record, records):
        table.add_row(label, Text(value))
    print_table(table, whole_lines=True)
    if related := list(text.relatives(record, records)):
        print("\nrelatives")
        _print(("relation", *text.HEADINGS), [[relation, *text.row(other)] for relation, other in related])
    else:
        print("\nno relatives: no other candidate has this genome, its weights, or is its parent.")


def compare(options: argparse.Namespace) -> None:
    """`parapet archive compare`."""
    from parapet.cli import archive_text as text

    records = _candidates(options.archive)
    chosen = list({(record := _find(records, name, options.archive)).id: record for name in options.ids}.values())
    if len(chosen) < 2:
        raise InputError(f"{', '.join(options.ids)} is one candidate; give the ids of at least two.")
    rows = [text.row(record) for record in chosen]
    # Without the ids, which are the headings, and the descriptions, which the genes below replace.
    lines = [[heading, *(row[place] for row in rows)] for place, heading in enumerate(text.HEADINGS[:-1]) if place > 0]
    genes = text.differing_genes(chosen)
    lines += [[gene, *(str(text.genome_of(record)[gene]) for record in chosen)] for gene in genes]
    _print(("", *(record.id for record in chosen)), lines)
    if not genes:
        print("The genomes are equal.")
    for sentence in filter(None, map(text.infeasibility, chosen)):
        print(sentence)
    measured = [record for record in chosen if record.validation is not None]
    for one, other in itertools.combinations(measured, 2):
        print(text.verdict(one, other, _objectives(options.archive)))


def verify(options: argparse.Namespace) -> int:
    """`parapet archive verify`; returns 1 if something is wrong."""
    from parapet.store import archive as journal
    from parapet.verification import artifacts as files
    from parapet.verification import records as verification

    home = options.archive.parent
    if options.dataset is not None:
        _check_dataset(options.dataset, home)
    own = home.parent / ".parapet"
    cache = options.cache or (own if _is_folder_of_search(home) and own.is_dir() else lasting(".parapet"))
    if not options.archive.is_file():
        _check_there(options.archive)
    records = journal.read(options.archive)
    with Progress("verify", len(records), "records") as progress:
        found = verification.verify(records, cache, lambda done: progress.update(done, ""))
    print(f"{options.archive}: the checksum and place of {found.records:,} lines; schema, id and genome of each; in "
          f"{cache} {found.trainings:,} training.json and {found.weights:,} model.safetensors of "
          f"{len(journal.latest(records)):,} candidates.")
    if torn := journal.torn(options.archive):
        print(f"note: {torn} bytes of a torn last line; a killed search leaves them, and the next one cuts them off.")
    found.problems += _missing_lines(options.archive, records)
    verified = {cache: files.cache(cache)}
    if _is_folder_of_search(home):
        verified[home.parent] = files.artifacts(home.parent, options.dataset)
    for place, more in verified.items():
        if more.files:
            print(f"{place}: the digests of {more.files:,} more files, and the accuracies of {more.evaluations:,} "
                  "evaluations, from the outcome of each image.")
        found.problems += more.problems
    for problem in found.problems:
        print(problem)
    many = "problem" if len(found.problems) == 1 else "problems"
    print(f"{len(found.problems):,} {many}." if found.problems else "all in order.")
    return 1 if found.problems else 0


def _check_dataset(folder: Path, home: Path) -> None:
    """Raise InputError if `folder` is no prepared data set, or `home` no search to compare it with."""
    if not (folder / "dataset.json").is_file():
        raise InputError(f"--dataset {named(str(folder))} is not a prepared data set: dataset.json is missing; give "
                         "the folder that `parapet data_prep` wrote.")
    if not _is_folder_of_search(home):
        raise InputError(f"--dataset needs an archive in the folder of a search, and {named(str(home))} is not one; "
                         "leave it out, or give the archive of such a folder with --archive.")


def _missing_lines(path: Path, records: Sequence[dict[str, Any]]) -> list[str]:
    """A sentence for each file beside the archive that counts more lines or candidates than the archive has."""
    from parapet.store import archive as journal

    return [f"{path.parent / name} says that there were {wanted:,} {what}, and {have:,} are left"
            for name, key, what, have in (("state.json", "lines", "lines", len(records)),
                                          ("search.json", "evaluated", "candidates", len(journal.latest(records))))
            if isinstance(wanted := _beside(path, name, key), int) and have < wanted]


def _beside(path: Path, name: str, key: str) -> Any:
    """A field of a JSON file beside the archive; None without it, for an archive may be kept without its search."""
    try:
        return read_json(path.parent / name)[key]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _check_there(path: Path) -> None:
    """Raise InputError if there is no archive, or if it is not the one that the search of its folder wrote."""
    if not path.is_file():
        raise InputError(f"{path} is not a file; give the archive.jsonl of a search with --archive FILE, or run "
                         "`parapet search` first.")
    if path.name == DEFAULT.name and _is_folder_of_search(path.parent):
        from parapet.store.search_folder import SearchFolder

        SearchFolder(path.parent).archive()


def _check_lines(path: Path, lines: int) -> None:
    """Raise InputError if the search wrote more lines to this archive."""
    wanted = _beside(path, "state.json", "lines")
    if isinstance(wanted, int) and lines < wanted:
        raise InputError(f"{path.parent / 'state.json'} says that there were {wanted:,} lines, and {lines:,} are left; "
                         f"`parapet archive verify --archive {path}` says what is wrong.")


def _is_folder_of_search(folder: Path) -> bool:
    """Whether a search wrote `folder`, even if a file of it is missing; an archive may be kept anywhere else."""
    return any((folder / name).exists() for name in ("digests.json", "front_ids.json"))


def _candidates(path: Path) -> list[Record]:
    """Every candidate of the archive at `path`, with its newest evaluation. Raises InputError if lines are missing."""
    from parapet.store.records import latest, read

    _check_there(path)
    records = read(path)
    _check_lines(path, len(records))
    return latest(records)


def _objectives(path: Path) -> Sequence[str]:
    """What the search minimised, from the search.json beside its archive; the archive in the cache has none."""
    if _is_folder_of_search(path.parent):
        from parapet.store.search_folder import SearchFolder

        objectives: Sequence[str] = SearchFolder(path.parent).summary()["objectives"]
    else:
        objectives = _beside(path, "search.json", "objectives") or _DEFAULT_OBJECTIVES
    return objectives


def _find(records: Sequence[Record], beginning: str, path: Path) -> Record:
    """The one record whose id or training key begins with `beginning`. Raises InputError for none and for several."""
    wanted = beginning.lower()
    found = [record for record in records if record.id.startswith(wanted)
             or (len(wanted) > len(record.id) and record.training_key.startswith(wanted))]
    if len(found) == 1:
        return found[0]
    if found:
        more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        names = ", ".join(record.id for record in found[:_NAMED])
        raise InputError(f"{quote(beginning)} is the beginning of several ids in {path}: {names}{more}; give more "
                         "digits.")
    near = difflib.get_close_matches(wanted, [record.id for record in records], n=3, cutoff=0)
    raise InputError(f"no candidate in {path} has an id that begins with {quote(beginning)}; "
                     + (f"near ones are {', '.join(near)}." if near else "it holds none at all."))


def _print(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table that never cuts a cell; in a narrow terminal the last column is folded."""
    table = Table(*headings[:-1], box=SIMPLE_HEAD, pad_edge=False)
    for column in table.columns:
        column.no_wrap = True
    table.add_column(headings[-1], min_width=min(_FOLDED_WIDTH, max(len(row[-1]) for row in (headings, *rows))))
    for row in rows:
        table.add_row(*map(Text, row))
    print_table(table, whole_lines=True)
