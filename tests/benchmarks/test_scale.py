"""The artifacts that the benchmark of scale makes up are ones that the commands read."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.scale import fluency, made_up
from parapet import cli


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("scale")
    made_up.write_artifacts(out, members=5, candidates=120, images=2)
    (out / "params.yaml").write_text("tracking: {enabled: false}\n")
    return out


def test_made_up_archive_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made_up.write_archive(tmp_path / "archive.jsonl", 120)
    assert cli.main(["archive", "list", "--limit", "5", "--archive", str(tmp_path / "archive.jsonl")]) == 0
    assert "5 of 120" in capsys.readouterr().out


@pytest.mark.parametrize("words", [("select", "knee"), ("report", "--cache", "cache")])
def test_made_up_front_is_read(artifacts: Path, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(artifacts)
    assert cli.main([words[0], *words[1:], "--out", str(artifacts)]) == 0


@pytest.mark.skipif(not fluency.CHROMIUM.exists(), reason=f"there is no {fluency.CHROMIUM}")
def test_the_page_of_a_made_up_front_is_timed_in_a_browser(artifacts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(artifacts)
    assert cli.main(["report", "--cache", "cache", "--out", str(artifacts)]) == 0
    found = fluency.measured(artifacts / "report" / "index.html")
    assert found["load"] > 0 and found["drawn"] > 0
    assert set(found["acts"]) == {"select a member", "switch the axis", "sort the table", "scroll a screen"}
    assert all(len(times) == 15 and min(times) > 0 for times in found["acts"].values())


@pytest.mark.skipif(not fluency.CHROMIUM.exists(), reason=f"there is no {fluency.CHROMIUM}")
def test_a_page_that_does_not_come_so_far_is_told(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<html><body><script>const scatter = null;</script></body></html>")
    with pytest.raises(RuntimeError, match="TypeError"):
        fluency.measured(tmp_path / "index.html")
