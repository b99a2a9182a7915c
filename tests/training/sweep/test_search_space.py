"""Hydra's grammar of sweeps as distributions of Optuna, and the sampler."""

import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from digitnet.errors import UsageError
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


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a=1,2", "a=5"], "a: given 2 times (a=1,2 and a=5), and searched; give it once"),
        (["a=5", "++a=1,2"], "a: given 2 times (a=5 and ++a=1,2), and searched; give it once"),
        (["a=1,2", "a=3,4"], "a: given 2 times (a=1,2 and a=3,4), and searched; give it once"),
        (["a=1,2", "trials=4"], "trials: given twice (trials=3 and trials=4); give it once"),
        (["a=1,2", "study=x"], "study: given twice (study=x and study=x); give it once"),
        (["a=1,2", "seeds=2", "seeds=3"], "seeds: given twice (seeds=2 and seeds=3); give it once"),
        (["a=1,2", "seeds"], "seeds: has no value; type seeds=VALUE"),
        (["a=1,2", "pruner"], "pruner: has no value; type pruner=VALUE"),
    ],
)
def test_a_word_that_would_be_dropped_is_refused(words: list[str], message: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_settings(["study=x", "trials=3", *words], [])
    assert str(error.value) == message


def test_a_key_that_is_not_searched_may_be_given_twice() -> None:
    settings = parse_settings(["study=x", "trials=3", "a=1,2", "b=1", "b=2"], [])
    assert settings.fixed == ("b=1", "b=2")


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
