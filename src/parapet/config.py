"""params.yaml as frozen dataclasses, one class per section; wrong input raises InputError with one sentence.

The names, defaults and ranges below are the complete reference of params.yaml; no other module reads that file.

pydantic 2.14 was tried in place of `parse`: it accepts unknown keys and names outside `choices` unless each class says
otherwise, refuses `8/255` for a number, and none of its messages names what is allowed or the nearest key.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import logging
import math
import re
import types
import typing
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from parapet import log
from parapet.catalogue import plugins
from parapet.catalogue.attacks import ATTACKS, FULL_SUITE, SEARCH_SUITES, check_also
from parapet.catalogue.datasets import DATASETS
from parapet.catalogue.quantities import OBJECTIVES
from parapet.disk import plain_yaml
from parapet.errors import InputError
from parapet.quoting import name as named
from parapet.quoting import quote

if typing.TYPE_CHECKING:
    from _typeshed import DataclassInstance

_Config = typing.TypeVar("_Config", bound="DataclassInstance")


def option(default: Any, *, low: float | None = None, high: float | None = None,
           choices: Collection[Any] | None = None, factory: bool = False, formerly: str | None = None) -> Any:
    """A dataclass field with the closed range [`low`, `high`] or the set of `choices` that the user may set.

    `formerly` is the name of the key in earlier versions; it is still read.
    """
    limits = {"low": low, "high": high, "choices": choices, "formerly": formerly}
    if factory:
        return field(default_factory=default, metadata=limits)
    return field(default=default, metadata=limits)


_LARGEST = 1e300
# Pixels are float32 with a resolution of 6e-8 near 1; an attack needs a radius of more than a few of these steps.
SMALLEST_EPS = 1e-6
# An upper bound on numbers of images, larger than any data set.
_MANY = 1_000_000_000
_FRACTION = re.compile(r"([+-]?[\d.]+(?:[eE][+-]?\d{1,3})?)\s*(?:/\s*(\d{1,300}))?", re.ASCII)
SCHEDULES = ("one_cycle", "cyclic", "piecewise", "cosine", "constant")


@dataclass(frozen=True)
class DataConfig:
    """The data set, and the folder that contains it (the variable `PARAPET_DATA` overrides `root`)."""

    name: str = option("digits", choices=DATASETS)
    root: str = option("data")


@dataclass(frozen=True)
class ThreatModel:
    """Norm and radius of the attacker. Pixels lie in [0, 1]; `8/255` and 0.03137 are both accepted for `eps`."""

    norm: str = option("linf", choices=("linf", "l2"))
    eps: float = option(0.2)

    def __post_init__(self) -> None:
        if not self.eps > 0:
            raise InputError(f"threat.eps is {self.eps:g}, and a radius must be above 0; "
                             "write for example 8/255 or 0.2.")
        if self.eps < SMALLEST_EPS:
            raise InputError(f"threat.eps is {self.eps:g}, less than float32 pixels can tell apart; it must be at "
                             f"least {SMALLEST_EPS:g}: write for example 8/255 or 0.2.")
        if self.norm == "linf" and self.eps > 1:
            hint = f"; did you mean {self.eps:g}/255 ({self.eps / 255:.4f})?" if self.eps <= 255 else "."
            raise InputError(f"threat.eps is {self.eps:g}, but pixels lie in [0, 1], so eps must lie in (0, 1] "
                             f"for linf{hint}")

    def check_image(self, channels: int, height: int, width: int) -> None:
        """Raise InputError where eps exceeds the diagonal sqrt(C*H*W) of the pixel cube (L2 only)."""
        diagonal = math.sqrt(channels * height * width)
        if self.norm == "l2" and self.eps > diagonal:
            raise InputError(f"threat.eps is {self.eps:g}, but no two images of {channels}x{height}x{width} "
                             f"pixels are further apart than {diagonal:.3g} in l2; choose eps in (0, {diagonal:.3g}].")

    def __str__(self) -> str:
        return f"{'L-inf' if self.norm == 'linf' else 'L2'}, eps = {self.eps:g}"


@dataclass(frozen=True)
class TrackingConfig:
    """MLflow tracking. The server is MLFLOW_TRACKING_URI, by default `sqlite:///mlflow.db`.

    The use of CPU, memory, disk, network and GPUs is sampled every `system_metrics_seconds` seconds; 0 means never.
    """

    enabled: bool = option(True)
    experiment: str = option("parapet")
    system_metrics_seconds: float = option(10.0, low=0.0, high=3600.0)


@dataclass(frozen=True)
class DataPrepConfig:
    """Shares of the splits; a published test split is not changed. `limit_*` select a stratified subset of so many
    images."""

    validation_share: float = option(0.2, low=0.01, high=0.5)
    test_share: float = option(0.2, low=0.01, high=0.5)
    limit_train: int | None = option(None, low=10, high=_MANY)
    limit_test: int | None = option(None, low=10, high=_MANY)


@dataclass(frozen=True)
class Rung:
    """A fidelity below full training: the number of epochs, the share of the training images, and the genome's own
    attack or a cheap one (`n_fgsm`: de Jorge et al. 2022, one noisy step)."""

    epochs: int = option(2, low=1, high=10_000)
    data_share: float = option(1.0, low=0.01, high=1.0)
    crafting: str = option("own", choices=("own", "n_fgsm"))


@dataclass(frozen=True)
class SearchConfig:
    """NSGA-II: sizes, objectives, the corners of the hypervolume box and the choices of each gene.

    `ideal` and `reference` are points (clean error, robust error, log10 FLOPs). A candidate below
    `minimum_clean_accuracy` is infeasible and stays in the archive; one above a `maximum_*` is never trained. `budget`,
    for example "200 candidates", "2 hours" or "8 gpu-hours", overrides `generations`. `rungs` are fidelities below
    `training`, cheapest first. The best `1 / reduction` of each rung are promoted to the next; the lowest rung is no
    longer used once its rank correlation with full training is below `minimum_rank_correlation`. With
    `full_from_scratch` the last promotion trains from scratch, so that the front need not be trained again at the end.
    With `warm_start` children inherit weights. `surrogate` ranks `oversampling` times as many offspring as are trained.
    Members of the front are evaluated `evaluations` times, and at the end trained with `final_seeds` seeds. `space`
    replaces the choices of genes.
    """

    population: int = option(8, low=2, high=1000)
    generations: int = option(4, low=1, high=1000)
    budget: str | None = option(None)
    rungs: tuple[Rung, ...] = option(())
    reduction: int = option(3, low=2, high=100)
    full_from_scratch: bool = option(False)
    minimum_rank_correlation: float = option(0.3, low=-1.0, high=1.0)
    warm_start: bool = option(False)
    surrogate: str = option("none", choices=("none", "forest", "gaussian_process"))
    oversampling: int = option(4, low=1, high=100)
    evaluations: int = option(1, low=1, high=100, formerly="looks")
    final_seeds: int = option(1, low=1, high=20)
    workers: int | None = option(None, low=1, high=256)
    threads: int = option(1, low=1, high=256)
    objectives: tuple[str, ...] = option(("clean_error", "robust_error", "flops"), choices=OBJECTIVES)
    minimum_clean_accuracy: float = option(0.0, low=0.0, high=1.0)
    maximum_flops: float | None = option(None, low=1, high=1e30)
    maximum_params: float | None = option(None, low=1, high=1e30)
    maximum_latency_ms: float | None = option(None, low=1e-6, high=1e9)
    ideal: tuple[float, ...] = option((0.0, 0.0, 3.0), low=-100.0, high=100.0)
    reference: tuple[float, ...] = option((1.0, 1.0, 10.0), low=-100.0, high=100.0)
    attempts: int = option(3, low=1, high=10)
    timeout_seconds: float = option(86400.0, low=1, high=1e8)
    space: dict[str, list[Any]] = option(dict, factory=True)

    def __post_init__(self) -> None:
        wanted = ("clean_error", "robust_error")
        if len(set(self.objectives)) != len(self.objectives) or not set(wanted) < set(self.objectives):
            costs = [name for name in OBJECTIVES if name not in wanted]
            raise InputError(f"search.objectives is {quote(list(self.objectives))}; it must name clean_error, "
                             f"robust_error and at least one cost ({', '.join(costs)}), each once.")
        for name in ("ideal", "reference"):
            if len(getattr(self, name)) != 3:
                raise InputError(f"search.{name} has {len(getattr(self, name))} numbers; it needs three: "
                                 "clean error, robust error, log10 FLOPs.")
        if not all(low < high for low, high in zip(self.ideal, self.reference)):
            raise InputError(f"search.ideal {quote(list(self.ideal))} must be below search.reference "
                             f"{quote(list(self.reference))} in every place.")


@dataclass(frozen=True)
class TrainingConfig:
    """The training settings that all candidates share; the rest of the recipe is in the genome.

    `eps_ramp` is the share of training during which the radius grows to its full size. `weight_average` is the decay of
    the moving average of the weights; 0 means no average. With `adapt` the attack steps, the radius and the
    regularisers are adjusted after each epoch from the validation results. `precision` "auto" is bfloat16 on CUDA and
    float32 elsewhere. `compile` uses torch.compile, which takes about a minute at the start and is not faster on the
    CPU (not tested on a GPU). `gpus` GPUs train one candidate together, each on its share of every batch; on the CPU so
    many processes do.
    """

    epochs: int = option(12, low=1, high=10_000)
    batch_size: int = option(64, low=2, high=65_536)
    eps_ramp: float = option(0.3, low=0.0, high=1.0)
    schedule: str = option("one_cycle", choices=SCHEDULES)
    weight_average: float = option(0.0, low=0.0, high=0.99999)
    augmentation: str = option("none", choices=("none", "crop", "crop_flip"))
    adapt: bool = option(False)
    precision: str = option("auto", choices=("auto", "float32"))
    compile: bool = option(False)
    label_smoothing: float = option(0.0, low=0.0, high=0.5)
    gradient_clip: float = option(1.0, low=0.0, high=1e9)
    validate_every: int = option(4, low=1, high=10_000)
    validation_images: int = option(512, low=1, high=_MANY)
    validation_steps: int = option(5, low=1, high=1000)
    checkpoint_seconds: float = option(5.0, low=0.0, high=1e8)
    gpus: int = option(1, low=1, high=64)

    def __post_init__(self) -> None:
        if self.batch_size % self.gpus:
            raise InputError(f"training.batch_size is {self.batch_size}, which {self.gpus} processes cannot share "
                             f"equally; make it a multiple of training.gpus, {self.gpus}.")


@dataclass(frozen=True)
class AttackEvaluationConfig:
    """The attack suite of the search, on the validation split.

    It runs FGSM; then with `suite` "rapid" the rapid AutoAttack with `rapid_steps` and `rapid_queries`, or with "pgd"
    PGD on two losses with `pgd_steps` and `pgd_restarts`; then the attacks `also` with their default budgets.
    """

    images: int = option(1000, low=1, high=_MANY)
    batch_size: int = option(128, low=1, high=65_536)
    suite: str = option("rapid", choices=("rapid", "pgd"))
    rapid_steps: int = option(8, low=1, high=10_000)
    rapid_queries: int = option(25, low=0, high=1_000_000)
    pgd_steps: int = option(20, low=1, high=10_000)
    pgd_restarts: int = option(1, low=1, high=1000)
    audit_images: int = option(128, low=1, high=_MANY)
    also: tuple[str, ...] = option((), choices=ATTACKS)

    def __post_init__(self) -> None:
        other = "pgd" if self.suite == "rapid" else "rapid"
        idle = [one.name for one in dataclasses.fields(self) if one.name.startswith(f"{other}_")
                and getattr(self, one.name) != one.default]
        if idle:
            raise InputError(f"attack_evaluation.{idle[0]} is {getattr(self, idle[0])}, and suite is {self.suite}, "
                             f"which does not use it; write suite: {other}, or leave {idle[0]} out.")


@dataclass(frozen=True)
class ExportConfig:
    """ONNX export, its parity with torch, and the latency measurement: single stream, and throughput with batches of
    `throughput_batch` (0: not measured)."""

    opset: int = option(20, low=18, high=25)
    tolerance: float = option(1e-3, low=0.0, high=1.0)
    latency_batch: int = option(1, low=1, high=65_536)
    latency_threads: int = option(1, low=1, high=256)
    latency_warmup: int = option(30, low=1, high=1_000_000)
    latency_runs: int = option(200, low=10, high=1_000_000)
    latency_seconds: float = option(0.2, low=0.0, high=3600.0)
    throughput_batch: int = option(256, low=0, high=65_536)


@dataclass(frozen=True)
class FullEvaluationConfig:
    """The full attack suite and the audit of the front, on the test split.

    `apgd_steps`, `apgd_targets`, `fab_steps` and `square_queries` are the budgets of AutoAttack's four attacks, by
    default the published ones; an attack with budget 0 is left out. The attacks `also` follow, with their default
    budgets. Each member has an INT8 variant, calibrated on `calibration_images` training images and attacked on
    `int8_images` test images (0: no variants) by transfer and by Square with `int8_queries` queries.
    """

    images: int = option(10_000, low=1, high=_MANY)
    batch_size: int = option(512, low=1, high=65_536)
    pgd_steps: int = option(50, low=1, high=10_000)
    pgd_restarts: int = option(2, low=1, high=1000)
    deepfool_steps: int = option(30, low=1, high=1000)
    apgd_steps: int = option(100, low=0, high=10_000)
    apgd_targets: int = option(9, low=1, high=1000)
    fab_steps: int = option(100, low=0, high=10_000)
    square_queries: int = option(5000, low=0, high=1_000_000)
    audit_images: int = option(128, low=1, high=_MANY)
    stored_images: int = option(8, low=0, high=1000)
    calibration_images: int = option(256, low=8, high=100_000)
    int8_images: int = option(1000, low=0, high=_MANY)
    int8_queries: int = option(1000, low=0, high=1_000_000)
    also: tuple[str, ...] = option((), choices=ATTACKS)


@dataclass(frozen=True)
class FrontConfig:
    """Whether the assembled front keeps members whose audit failed on the test split."""

    keep_failed_audits: bool = option(False)


@dataclass(frozen=True)
class ReportConfig:
    """The HTML report."""

    title: str = option("Parapet")
    images: int = option(8, low=0, high=100)


@dataclass(frozen=True)
class PromotionConfig:
    """Which member of the front is registered, and the thresholds of the promotion gate.

    The new model may replace the champion unless a paired test at level `significance` shows that it is worse. A
    running promotion renews its lock every `lock_seconds` / 4; when a lock was not renewed for `lock_seconds`, the next
    promotion undoes the unfinished one. The exported graph is audited in depth on `audit_images` test images (0: no
    audit).
    """

    model_name: str = option("parapet")
    select: str = option("knee")
    minimum_robust_accuracy: float = option(0.0, low=0.0, high=1.0)
    maximum_latency_ms: float = option(1e9, low=0.0, high=1e9)
    audit_images: int = option(100, low=0, high=_MANY)
    significance: float = option(0.05, low=1e-6, high=0.5)
    lock_seconds: float = option(60.0, low=1.0, high=86400.0)


@dataclass(frozen=True)
class Params:
    """All of params.yaml; `plugins` are modules with declarations (see `parapet.catalogue.plugins`)."""

    seed: int = option(0, low=0, high=2**31 - 1)
    device: str = option("auto")
    plugins: tuple[str, ...] = option(())
    data: DataConfig = option(DataConfig, factory=True)
    threat: ThreatModel = option(ThreatModel, factory=True)
    tracking: TrackingConfig = option(TrackingConfig, factory=True)
    data_prep: DataPrepConfig = option(DataPrepConfig, factory=True)
    search: SearchConfig = option(SearchConfig, factory=True)
    training: TrainingConfig = option(TrainingConfig, factory=True)
    attack_evaluation: AttackEvaluationConfig = option(AttackEvaluationConfig, factory=True)
    export: ExportConfig = option(ExportConfig, factory=True)
    full_evaluation: FullEvaluationConfig = option(FullEvaluationConfig, factory=True)
    front: FrontConfig = option(FrontConfig, factory=True)
    report: ReportConfig = option(ReportConfig, factory=True)
    promotion: PromotionConfig = option(PromotionConfig, factory=True)

    def __post_init__(self) -> None:
        search = self.attack_evaluation
        check_also(search.also, SEARCH_SUITES[search.suite], "attack_evaluation.also", self.threat.norm)
        check_also(self.full_evaluation.also, FULL_SUITE, "full_evaluation.also", self.threat.norm)


# The default values of top-level keys that are not sections, for messages.
_EMPTY = {"seed": "0", "device": "auto", "plugins": "[]"}


def load(path: Path, *, complete: bool = False) -> Params:
    """Read and check params.yaml; with `complete` every section must be present, but it may be empty.

    Raises InputError with one sentence: the key, the value and the allowed values.
    """
    values = plain_yaml.read(path, "give a parameter file with --params FILE")
    values = {} if values is None else values
    try:
        if isinstance(values, dict):
            if values.get("plugins", ()) is None:
                values = {**values, "plugins": []}
            plugins.register(_convert("plugins", values.get("plugins", ()), tuple[str, ...], {}), path.parent)
        if complete and isinstance(values, dict):
            missing = [item.name for item in dataclasses.fields(Params) if item.name not in values]
            if missing:
                raise InputError(f"{', '.join(missing)} is missing, and dvc.yaml names it; add `{missing[0]}: "
                                 f"{_EMPTY.get(missing[0], '{}')}`.")
        return parse(Params, values)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def parse(kind: type[_Config], values: Any, prefix: str = "") -> _Config:
    """Build a dataclass from a mapping. Raises InputError for unknown keys, wrong types and values out of range.

    Floats with an integer value are accepted as integers, because Kubeflow returns all JSON numbers as floats.
    """
    place = prefix.rstrip(".") or "the top level"
    if not isinstance(values, dict):
        raise InputError(f"{place} is {quote(values)}, and it must be a mapping of keys to values.")
    hints = typing.get_type_hints(kind)
    fields = {item.name: item for item in dataclasses.fields(kind)}
    values = _with_new_names(values, fields.values(), prefix)
    for key in values:
        if key not in fields:
            near = difflib.get_close_matches(named(key), fields, n=1)
            hint = f"; did you mean {prefix}{near[0]}?" if near else "."
            raise InputError(f"{prefix}{named(key)} is not a known key{hint} The keys of {place} are: "
                             f"{', '.join(fields)}.")
    return kind(**{key: _convert(f"{prefix}{key}", value, hints[key], fields[key].metadata)
                   for key, value in values.items()})


def _with_new_names(values: dict[str, Any], fields: Iterable[dataclasses.Field[Any]], prefix: str) -> dict[str, Any]:
    """`values` with every key of an earlier version under its new name. Raises InputError where both names are given.
    """
    for item in fields:
        old = item.metadata.get("formerly")
        if old is None or old not in values:
            continue
        if item.name in values:
            raise InputError(f"{prefix}{old} is the former name of {prefix}{item.name}, and both are given; leave "
                             f"{prefix}{old} out.")
        log.event(f"{prefix}{old} is now called {prefix}{item.name}; the old name is still read",
                  level=logging.WARNING)
        values = {item.name if key == old else key: value for key, value in values.items()}
    return values


def to_dict(config: Any) -> dict[str, Any]:
    """A dataclass as plain dicts and lists, ready for JSON, hashing and `parse`."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    return plain


def subset(params: Params, names: Iterable[str]) -> dict[str, Any]:
    """The sections `names` of params.yaml as a plain dict: the input of a step, on which its cache key depends."""
    everything = to_dict(params)
    return {name: everything[name] for name in names}


def _convert(name: str, value: Any, hint: Any, limits: Any) -> Any:
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return parse(hint, {} if value is None else value, f"{name}.")
    origin = typing.get_origin(hint)
    if origin is types.UnionType:
        if value is None or value == "auto":
            return None
        hint = next(kind for kind in typing.get_args(hint) if kind is not type(None))
    elif origin is tuple:
        if not isinstance(value, list | tuple):
            raise InputError(f"{name} is {quote(value)}, and it must be a list.")
        inner = typing.get_args(hint)[0]
        return tuple(_convert(name, item, inner, limits) for item in value)
    elif hint == dict[str, str]:
        if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
            raise InputError(f"{name} is {quote(value)}, and it must map names to texts.")
        return {str(key): item for key, item in value.items()}
    elif origin is dict:
        if not isinstance(value, dict) or not all(isinstance(item, list) for item in value.values()):
            raise InputError(f"{name} is {quote(value)}, and it must map names to lists of choices.")
        for key, choice in ((key, choice) for key, choices in value.items() for choice in choices):
            if not isinstance(choice, str | int | float) or (isinstance(choice, float) and not math.isfinite(choice)):
                raise InputError(f"{name}.{named(key)} lists {quote(choice)}, and a choice is a text or a number.")
        return {str(key): list(item) for key, item in value.items()}
    return _check_limits(name, _scalar(name, value, hint), limits)


def _scalar(name: str, value: Any, kind: type) -> Any:
    if kind is bool and isinstance(value, bool):
        return value
    if kind is str and isinstance(value, str) and "\0" not in value:
        return value
    if kind is int and isinstance(value, int | float) and not isinstance(value, bool) and value % 1 == 0 \
            and abs(value) < _LARGEST:
        return int(value)
    if kind is float and not isinstance(value, bool):
        number = _fraction(value) if isinstance(value, str) else value
        if isinstance(number, int | float) and abs(number) < _LARGEST:
            return float(number)
    wanted = {bool: "true or false", str: "text", int: "a whole number", float: "a number"}[kind]
    if kind in (int, float) and isinstance(value, int | float) and _LARGEST <= abs(value) < math.inf:
        wanted += f" below {_LARGEST:g}"
    raise InputError(f"{name} is {quote(value)}, and it must be {wanted}.")


def _fraction(text: str) -> float | None:
    """The float value of a text such as `8/255` or `1e-3`, else None: eps is usually given as a fraction, which YAML
    reads as text, and YAML 1.1 also reads 1e-3 as text."""
    match = _FRACTION.fullmatch(text.strip())
    try:
        return float(match[1]) / float(match[2] or 1) if match else None
    except (ValueError, ZeroDivisionError, OverflowError):
        return None


def _check_limits(name: str, value: Any, limits: Any) -> Any:
    low, high, choices = limits.get("low"), limits.get("high"), limits.get("choices")
    if choices is not None and value not in choices:
        near = difflib.get_close_matches(named(value), [str(choice) for choice in choices], n=1)
        hint = f"; did you mean {near[0]}?" if near else "."
        raise InputError(f"{name} is {quote(value)}{hint} Allowed: {', '.join(map(str, choices))}.")
    if (low is not None and value < low) or (high is not None and value > high):
        allowed = (f"at least {_shown(low)}" if high is None else f"at most {_shown(high)}" if low is None
                   else f"from {_shown(low)} to {_shown(high)}")
        raise InputError(f"{name} is {_shown(value)}; allowed is {allowed}.")
    return value


def _shown(number: float) -> str:
    """The number with all its digits, so that 1.0000001 is not shown as 1; large integers are shortened."""
    if isinstance(number, int):
        return str(number) if abs(number) < 10**25 else f"{number:g}"
    return short if float(short := f"{number:g}") == number else repr(number)
