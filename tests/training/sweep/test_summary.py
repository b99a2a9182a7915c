"""What a sweep prints about its trials."""

from pathlib import Path

import optuna
import pytest
from omegaconf import OmegaConf
from optuna.trial import TrialState, create_trial

from digitnet.training.sweep.search_space import parse_settings
from digitnet.training.sweep.summary import summarize
from digitnet.training.sweep.trial import NOTE


def test_brackets_in_values_and_notes_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [f"study={tmp_path / 'study'}", "trials=2", "data.classes=choice([low,high],[low,middle])"]
    settings = parse_settings(words, [])
    distributions = {name: key.distribution for name, key in settings.searched.items()}
    study = optuna.create_study()
    for value, note in {"[low,high]": "[/]: no such file", "[low,middle]": ""}.items():
        params, notes = {"data.classes": value}, {NOTE: note}
        study.add_trial(
            create_trial(state=TrialState.FAIL, params=params, distributions=distributions, user_attrs=notes)
        )
    summarize(study, settings, OmegaConf.create())
    out = capsys.readouterr().out
    assert "[low,high]" in out
    assert "[low,middle]" in out
    assert "[/]" in out
