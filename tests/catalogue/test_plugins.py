"""Declarations from outside: the page "How to add ..." is carried out word for word, and what is wrong is told."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "adding.md").read_text()
CODE = "\n\n".join(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL))
LISTED = yaml.safe_load(re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[1])
# As little as shows everything: two generations of two.
SMALL = {
    "seed": 3, "device": "cpu", "threat": {"norm": "linf", "eps": 0.1}, "tracking": {"enabled": False},
    "search": {"population": 2, "generations": 2, "workers": 1, "space": {"width": [4, 8], "depth": [1], "steps": [1]}},
    "training": {"epochs": 2, "batch_size": 32, "validate_every": 1, "eps_ramp": 0.0},
    "attack_evaluation": {"rapid_steps": 2, "rapid_queries": 2},
    "full_evaluation": {"pgd_steps": 2, "pgd_restarts": 1, "deepfool_steps": 2, "apgd_steps": 2, "apgd_targets": 1,
                        "fab_steps": 2, "square_queries": 5, "int8_images": 0, "audit_images": 10},
    "export": {"latency_runs": 10, "latency_seconds": 0.0, "latency_warmup": 1, "throughput_batch": 0},
}


def merged(one: dict, other: dict) -> dict:
    return {key: merged(one[key], other[key]) if isinstance(one.get(key), dict) and isinstance(other.get(key), dict)
            else other.get(key, one.get(key)) for key in {**one, **other}}


def project(folder: Path, code: str = CODE, **changes: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "stripes.py").write_text(code)
    (folder / "params.yaml").write_text(yaml.safe_dump(merged(merged(SMALL, LISTED), changes)))
    return folder


def parapet(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "parapet.cli", *words], cwd=folder, capture_output=True, text=True,
                          timeout=300, env=environment())


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}


def python(folder: Path, code: str, timeout: int = 120) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=timeout,
                          env=environment())
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_one_of_each_is_searched_killed_resumed_and_found_in_the_report(tmp_path: Path) -> None:
    folder = project(tmp_path / "project")
    assert parapet(folder, "check").stdout.splitlines()[-1] == "params.yaml and the data set stripes are in order."
    first = subprocess.Popen([sys.executable, "-m", "parapet.cli", "run", "--out", "out"], cwd=folder,
                             env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                             start_new_session=True)
    journal = folder / "out" / ".parapet"
    until = time.monotonic() + 240
    while not list(journal.glob("candidates/*/training.json")) and time.monotonic() < until and first.poll() is None:
        time.sleep(0.1)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    done = parapet(folder, "run", "--out", "out")
    assert done.returncode == 0, done.stderr
    front = json.loads((folder / "out" / "front.json").read_text())
    assert front["search"]["objectives"] == ["clean_error", "robust_error", "weight_count"]
    assert front["data"]["classes"] == ["rows", "columns", "diagonals"]
    for member in front["candidates"]:
        genome = member["genome"]
        assert (genome["backbone"], genome["loss"]) == ("two_layers", "focal") and genome["focal_gamma"] in (0.5, 2.0)
        assert "corners" in member["test"]["attacks"] and "corners" in member["validation"]["attacks"]
    page = (folder / "out" / "report" / "index.html").read_text()
    assert re.search(r"two_layers \dx1 (tanh|relu), .*focal gamma (0\.5|2)", page) and "corners" in page
    listed = parapet(folder, "archive", "list", "--archive", "out/search/archive.jsonl").stdout
    assert "focal gamma" in listed and "4 of 4" in listed
    chosen = parapet(folder, "select", "weight_count <= 1e6, then fewest weight_count", "--out", "out")
    assert chosen.returncode == 0 and "the fewest weight count" in chosen.stdout, chosen.stderr


def test_what_uses_a_plugin_has_its_source_in_its_key_and_nothing_else_has(tmp_path: Path) -> None:
    code = """
import json
from pathlib import Path
from parapet.config import load
from parapet.fidelity import Fidelity
from parapet.genome import Genome
from parapet.store.keys import evaluation_key, search_key, training_key
from parapet.store.records import Request

params = load(Path("params.yaml"))
full = Fidelity.ladder((), params.training.epochs)[-1]
keys = {"plain": training_key(Request(Genome(), full), params, "f", "cpu"),
        "focal": training_key(Request(Genome(loss="focal", others=(("focal_gamma", 2.0),)), full), params, "f", "cpu"),
        "attacks": evaluation_key("t", params, "attack_evaluation"), "search": search_key(params, "f", "cpu")}
print(json.dumps(keys))
"""
    found = [json.loads(python(project(tmp_path / name, CODE + comment), code))
             for name, comment in (("one", ""), ("two", "\n# changed\n"), ("three", ""))]
    assert found[0] == found[2]
    assert [name for name in found[0] if found[0][name] != found[1][name]] == ["focal", "attacks", "search"]


def test_a_backbone_of_more_stages_raises_the_bound_of_the_denoiser_s_place(tmp_path: Path) -> None:
    deep = CODE.replace("for inputs in (channels, width))", "for inputs in (channels, *[width] * 5))").replace(
        "(width, width), head)", "(width,) * 6, head)").replace("stride=2", "stride=1").replace(
        'two_layers")', 'two_layers", stages=6)')
    code = """
from pathlib import Path
import torch
from parapet import schemas
from parapet.config import load
from parapet.errors import InputError
from parapet.genome import Genome
from parapet.models import build
from parapet.search.network_space import SearchSpace

before = schemas.schema("genome")["properties"]["denoiser_stage"]["maximum"]
params = load(Path("params.yaml"))
values = {**Genome(denoiser="mean").to_dict(), "backbone": "two_layers"}
network = build(Genome.from_dict({**values, "denoiser_stage": 6}), (1, 8, 8), 3, generator=torch.Generator())
print(before, tuple(network(torch.rand(2, 1, 8, 8)).shape), SearchSpace(params.search.space).choices("denoiser_stage"))
print(schemas.problem("genome", {**values, "denoiser_stage": 6}))
print(schemas.problem("genome", {**values, "denoiser_stage": 7}))
for attempt in (lambda: Genome.from_dict({**values, "denoiser_stage": 7}),
                lambda: SearchSpace({**params.search.space, "backbone": ["two_layers", "preact_resnet"]}),
                lambda: build(Genome(denoiser="mean", denoiser_stage=5), (1, 8, 8), 3, generator=torch.Generator())):
    try:
        attempt()
    except InputError as error:
        print(error)
"""
    folder = project(tmp_path, deep, search={"space": {"denoiser_stage": [1, 6]}})
    assert python(folder, code).splitlines() == [
        "4 (2, 3) (1, 6)", "None", "$.denoiser_stage: 7 is greater than the maximum of 6",
        "genome.denoiser_stage is 7; it must be a whole number from 1 to 6.",
        "search.space.denoiser_stage lists 6, and the backbone preact_resnet has 4 stages; list stages up to 4, or "
        "backbones with more of them: two_layers.",
        "denoiser_stage is 5, and the backbone plain has 2 stages; it must be a whole number from 1 to 2."]


@pytest.mark.slow
def test_two_processes_train_with_what_plugins_declare(tmp_path: Path) -> None:
    code = """
import json
from dataclasses import replace
from pathlib import Path
from parapet.config import load
from parapet.errors import InputError
from parapet.catalogue import plugins
from parapet.data.info import read_info
from parapet.fidelity import Fidelity
from parapet.genome import Genome
from parapet.models import load as load_network
from parapet.search.session import proposal_of
from parapet.steps import data_prep, training
from parapet.store.records import Request

params = load(Path("params.yaml"))
data_prep.run(params, [], Path("dataset"))
genome = Genome.from_dict({**Genome(width=4, depth=1, steps=1).to_dict(), "backbone": "two_layers",
                           "activation": "tanh", "denoiser": "shrink", "input_filter": "grey", "loss": "focal",
                           "focal_gamma": 2.0, "small_logits": 0.01})
full = Fidelity.ladder((), params.training.epochs)[-1]
proposal = proposal_of(Request(genome, full), params, read_info(Path("dataset")), "cpu", 0)
done = training.run(params, proposal, Path("dataset"), Path("two"))
print(done["status"], load_network(Path("two/model.safetensors")).genome == genome.canonical(),
      "small_logits" in done["curves"][-1], len(done["curves"]))
source = Path("stripes.py")
source.write_text(source.read_text() + "# changed\\n")
try:
    training.run(params, proposal, Path("dataset"), Path("changed"))
except InputError as error:
    print(error)
"""
    assert python(project(tmp_path, training={"gpus": 2}), code, timeout=600).splitlines() == [
        "done True True 2", "the plugin stripes was changed while the command ran; run the same command again."]


LOSS = "from parapet.catalogue.losses import Loss, Weight, LOSSES\n"
NETWORKS = "from parapet.catalogue.networks import Backbone\n"
GENE = "from parapet.catalogue.genes import Gene\n"
QUANTITY = "from parapet.catalogue.quantities import Quantity\n"


@pytest.mark.parametrize(("code", "sentence"), [
    ("import nothing_of_this_name", "plugins lists stripes, which cannot be imported (ModuleNotFoundError: No module "
     "named 'nothing_of_this_name'); give the name of a module that is installed or lies beside params.yaml."),
    ("import sys; sys.exit(0)", "plugins lists stripes, which cannot be imported (SystemExit: 0)"),
    ("x = 1", "plugins lists stripes, which has no DECLARATIONS; give it a tuple of that name with what it adds."),
    ("DECLARATIONS = ('focal',)", "DECLARATIONS of stripes holds a str; allowed are Loss, Regulariser, "),
    (LOSS + "DECLARATIONS = (Loss('trades', 'm:f'),)",
     "'trades' is declared twice as a loss; give one of the two another name."),
    (LOSS + "DECLARATIONS = (LOSSES['trades'],)",
     "DECLARATIONS of stripes holds trades, which Parapet itself declares; leave it out."),
    (LOSS + "DECLARATIONS = (Loss('mine', 'm:f', (Weight('a', 'b', 1.0),)),)",
     "DECLARATIONS of stripes holds the loss mine, whose weight a is the gene b, which is not declared; add a Gene of "
     "that name."),
    (LOSS + "DECLARATIONS = (Loss('mine', 'm:f', (('a', 'b', 1.0),)),)",
     "holds Loss mine, whose weights have to be a tuple of Weight."),
    (NETWORKS + "DECLARATIONS = (Backbone('mine', 'm:f', stages=0),)",
     "holds Backbone mine, whose stages has to be a whole number of at least 1."),
    (LOSS + "DECLARATIONS = (Loss('mine', 'stripes:f'),)",
     "holds Loss mine, whose function is stripes:f, and stripes has no f."),
    (LOSS + "DECLARATIONS = (Loss('mine', 'm:f', teacher='mine'),)",
     "holds the loss mine, whose teacher is mine; name another loss."),
    (LOSS + "DECLARATIONS = (Loss(['mine'], 'm:f'),)", "whose name has to be small letters, digits and _"),
    (GENE + "DECLARATIONS = (Gene('g', (0.0, 1.0), True),)", "holds Gene g, which has numbers as choices and"),
    (GENE + "DECLARATIONS = (Gene('g', (0.0, 1.0), True, 0.0, 1.0),)", "holds Gene g, which needs neutral, the value"),
    (GENE + "DECLARATIONS = (Gene('g', (), True, 0.0, 1.0, neutral=0.0),)", "holds Gene g, which has no choices."),
    (GENE + "DECLARATIONS = (Gene('g', (1.0,), True, 0.0, 1.0, has_effect=lambda values: False),)",
     "holds Gene g, which needs off, the value that it has where it has no effect."),
    (GENE + "DECLARATIONS = (Gene('g', (1.0,), True, 0.0, 1.0, off=0.0, has_effect=lambda values: values['back']),)",
     "holds Gene g, whose has_effect fails (KeyError: 'back')."),
    (QUANTITY + "DECLARATIONS = (Quantity('q', 'q', 'most', 'least', '1', objective='flops'),)",
     "holds Quantity q, whose objective flops is another quantity's."),
    (QUANTITY + "DECLARATIONS = (Quantity('q', 'q', 'most', 'least', '1', more_is_better=True),)",
     "holds Quantity q, which is more_is_better and has to be a share without a floor."),
])
def test_a_plugin_that_cannot_be_used_is_told_in_a_sentence(tmp_path: Path, code: str, sentence: str) -> None:
    done = parapet(project(tmp_path, code), "check")
    assert done.returncode == 2 and sentence in done.stderr and "Traceback" not in done.stderr, done.stderr


def test_what_a_plugin_prints_is_no_answer_and_its_failures_name_it(tmp_path: Path) -> None:
    loud = project(tmp_path / "loud", CODE.replace("random = np.random.default_rng(0)",
                                                     "random = {}['nothing']") + "\nprint('hello')\n")
    done = parapet(loud, "check")
    assert done.returncode == 2 and "hello" not in done.stdout
    assert ("the data set stripes cannot be read by stripes:stripes (KeyError: 'nothing'); correct the plugin that "
            "declares it.") in done.stderr


def test_a_file_beside_the_plugin_hides_no_installed_package(tmp_path: Path) -> None:
    folder = project(tmp_path)
    (folder / "scipy.py").write_text("raise SystemError('shadowed')\n")
    code = ("from pathlib import Path; from parapet.config import load; load(Path('params.yaml')); "
            "import sys; sys.path.remove(''); import scipy; print(scipy.__version__ > '1')")
    assert python(folder, code) == "True\n"


def test_no_plugins_can_be_written_in_three_ways(tmp_path: Path) -> None:
    for text in ("plugins: []\n", "plugins:\n", ""):
        (tmp_path / "params.yaml").write_text(text)
        assert python(tmp_path, "from pathlib import Path; from parapet.config import load; "
                                "print(load(Path('params.yaml')).plugins)") == "()\n"


def test_the_variable_names_modules_too(tmp_path: Path) -> None:
    folder = project(tmp_path)
    (folder / "params.yaml").unlink()
    done = subprocess.run([sys.executable, "-m", "parapet.cli", "archive", "list", "--archive", "none.jsonl"],
                          cwd=folder, capture_output=True, text=True, timeout=120,
                          env={**environment(), "PARAPET_PLUGINS": "stripes, nonsense"})
    assert done.returncode == 2
    assert "PARAPET_PLUGINS: plugins lists nonsense, which cannot be imported" in done.stderr


def test_a_plugin_that_changes_meanwhile_is_refused_by_a_child(tmp_path: Path) -> None:
    code = """
from pathlib import Path
from parapet.catalogue import plugins
from parapet.errors import InputError
plugins.register(["stripes"], Path("."))
known = plugins.inheritance()
plugins.inherit(known)
try:
    plugins.inherit({**known, "digests": {"stripes": "0" * 64}})
except InputError as error:
    print(error)
"""
    assert python(project(tmp_path), code) == (
        "the plugin stripes was changed while the command ran; run the same command again.\n")


@pytest.mark.parametrize(("changes", "sentence"), [
    ({"attack_evaluation": {"also": ["cornerz"]}}, "attack_evaluation.also is 'cornerz'; did you mean corners?"),
    ({"attack_evaluation": {"also": ["corners", "corners"]}}, "attack_evaluation.also names corners, which is in the "
     "suite already; leave it out."),
    ({"full_evaluation": {"also": ["carlini_wagner"]}}, "full_evaluation.also names carlini_wagner, which does not "
     "attack under linf; allowed: pgd_100, "),
    ({"data": {"name": "strypes"}}, "data.name is 'strypes'; did you mean stripes? Allowed: digits, mnist,"),
    ({"search": {"space": {"loss": ["focall"]}}}, "search.space.loss is 'focall'; did you mean focal? Allowed: pgd,"),
])
def test_a_word_that_is_nearly_a_plugin_s_is_corrected(tmp_path: Path, changes: dict, sentence: str) -> None:
    done = parapet(project(tmp_path, **changes), "check")
    assert done.returncode == 2 and sentence in done.stderr


def test_an_installed_package_needs_no_line(tmp_path: Path) -> None:
    (tmp_path / "their_losses.py").write_text(
        "from parapet.catalogue.losses import Loss\nTHEIRS = Loss('theirs', 'their_losses:loss')\ndef loss(): pass\n")
    about = tmp_path / "their_losses-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: their-losses\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[parapet.losses]\ntheirs = their_losses:THEIRS\n")
    code = ("from parapet.catalogue import plugins; from parapet.catalogue.losses import LOSSES; "
            "plugins.register_installed(); plugins.register_installed(); "
            "known = plugins.inheritance(); print(list(LOSSES)[-1], "
            "known['modules'], known['installed'], *known['digests'], *plugins.sources([LOSSES['theirs']]))")
    assert python(tmp_path, code) == "theirs [] ['theirs'] their_losses their_losses\n"
