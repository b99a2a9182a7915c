"""Hydra's grammar of sweeps as distributions of Optuna, and the sampler."""

import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from digitnet.training.sweep.search_space import parse_settings
from digitnet.training.sweep.study import NumberedTPE

CASES: dict[str, BaseDistribution] = {
    "interval(1e-4,1e-1)": FloatDistribution(1e-4, 1e-1),
    "tag(log,interval(1e-4,1e-1))": FloatDistribution(1e-4, 1e-1, log=True),
    "int(interval(1,5))": IntDistribution(1, 5),
    "tag(log,int(interval(1,500)))": IntDistribution(1, 500, log=True),
    "range(64,513,64)": IntDistribution(64, 512, step=64),
    "range(0,1,0.25)": FloatDistribution(0, 0.75, step=0.25),
    "choice([128,64],[256,128])": CategoricalDistribution(["[128,64]", "[256,128]"]),
    "1,2.5,true,'a b'": CategoricalDistribution([1, 2.5, True, "'a b'"]),
}


@pytest.mark.parametrize("text", CASES)
def test_each_form_of_the_grammar_becomes_a_distribution(text: str) -> None:
    settings = parse_settings(["study=x", "trials=3", "seed=2", f"++model.key={text}"], [])
    assert settings.searched["model.key"].distribution == CASES[text]
    assert settings.overrides({"model.key": 7}) == ["seed=2", "++model.key=7"]


def test_a_glob_searches_the_options_of_a_group() -> None:
    settings = parse_settings(["study=x", "trials=3", "model=glob(*)"], [])
    assert set(settings.searched["model"].extremes) >= {"cnn", "mlp"}


def test_the_checked_runs_contain_every_extreme_value_of_every_key() -> None:
    settings = parse_settings(["study=x", "trials=3", "a=1,2,3", "b=interval(0,1)"], [])
    assert {params["a"] for params in settings.extreme_params} == {1, 2, 3}
    assert {params["b"] for params in settings.extreme_params} == {0, 1}


def sampled(seed: int, new_sampler_each_trial: bool) -> list[float]:
    study = optuna.create_study(sampler=NumberedTPE(seed))
    for _ in range(14):
        if new_sampler_each_trial:
            study.sampler = NumberedTPE(seed)
        trial = study.ask({"x": FloatDistribution(0, 1)})
        study.tell(trial, trial.params["x"])
    return [trial.params["x"] for trial in study.trials]


def test_an_interrupted_study_samples_the_same_values_and_another_seed_others() -> None:
    first = sampled(1, new_sampler_each_trial=False)
    assert len(set(first)) == len(first)
    assert sampled(1, new_sampler_each_trial=True) == first
    assert not set(sampled(2, new_sampler_each_trial=False)) & set(first)
