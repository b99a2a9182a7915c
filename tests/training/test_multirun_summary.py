"""The table of the runs that one command with `-m` has started."""

import json
from pathlib import Path

import pytest

from digitnet.training.multirun_summary import print_multirun_summary


def test_brackets_in_values_and_in_the_name_of_the_folder_are_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for number, value in enumerate(["[low,high]", "[/]"]):
        record = tmp_path / "s[one]" / str(number) / ".hydra" / "overrides.yaml"
        record.parent.mkdir(parents=True)
        record.write_text(f"- model=mlp\n- ++data.classes={value}\n")
        (record.parents[1] / "metrics.json").write_text(json.dumps({"val/acc": 0.5}))
    print_multirun_summary(tmp_path / "s[one]")
    out = capsys.readouterr().out
    assert "2 runs in s[one]" in out
    assert "data.classes" in out
    assert "[low,high]" in out
    assert "[/]" in out
