"""What a sweep searches: from the words of the command line to the overrides of a trial."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep, Transformer
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from digitnet.errors import UsageError, check_argument
from digitnet.training.sweep.pruning import PRUNERS

Params = dict[str, Any]

_OPTIONS = ("study", "trials", "pruner", "seeds")
_SEARCHED_ELSEWHERE = {
    "seed": "seeds=3 makes every trial the mean of three seeds",
    "resume": "the same command continues a study",
    "test": "a sweep does not score the test images",
    "run_dir": "every trial has a folder in that of the study",
}


@dataclass(frozen=True)
class SearchedKey:
    """A key whose value the trials choose."""

    key: str
    """The key as it is typed before the `=`, with `+` if it has one."""
    text: str
    """The whole override as it was typed."""
    distribution: BaseDistribution
    """The values to choose from."""
    extremes: tuple[Any, ...]
    """Values that are checked before the first trial: all of a choice, the two ends of an interval."""


@dataclass(frozen=True)
class SweepSettings:
    """The command line of a sweep."""

    study_dir: Path
    """The folder of the study."""
    trials: int
    """Number of trials of the study, those of all workers and of earlier starts together."""
    pruner: str
    """Name of the rule that ends bad trials early, one of `PRUNERS`."""
    seeds: int
    """Number of runs of each trial, with consecutive seeds."""
    flags: tuple[str, ...]
    """Options of Hydra that all trials share, such as `--config-dir=DIR`."""
    fixed: tuple[str, ...]
    """The overrides that all trials share."""
    searched: dict[str, SearchedKey]
    """The keys to search, by name."""

    @property
    def record(self) -> list[str]:
        """What must be equal in all commands that work on one study."""
        searched = [key.text for key in self.searched.values()]
        return sorted([*self.flags, *self.fixed, *searched, f"pruner={self.pruner}", f"seeds={self.seeds}"])

    @property
    def extreme_params(self) -> list[Params]:
        """A few sets of parameters in which every extreme value of every key occurs."""
        count = max(len(key.extremes) for key in self.searched.values())
        return [
            {name: key.extremes[number % len(key.extremes)] for name, key in self.searched.items()}
            for number in range(count)
        ]

    def overrides(self, params: Params) -> list[str]:
        """Return the overrides of a trial.

        Args:
            params: The value of every searched key.

        Returns:
            The overrides of `train`.
        """
        return [*self.fixed, *(f"{key.key}={params[name]}" for name, key in self.searched.items())]


def parse_settings(words: list[str], flags: list[str]) -> SweepSettings:
    """Parse the words of the command line.

    Args:
        words: Options of the sweep and overrides of `train`, some of which name values to choose from.
        flags: Options of Hydra, which are passed on to every trial.

    Returns:
        The settings. Whether the keys exist is not checked.

    Raises:
        UsageError: If an option is wrong or given twice, a searched key is given twice, or no key is searched.
        hydra.errors.HydraException: If Hydra cannot parse an override.
    """
    options = {"pruner": "median", "seeds": "1"} | _parse_options(words)
    texts = [word for word in words if word.partition("=")[0] not in _OPTIONS]
    check_argument(bool(options.get("study")), "study", options.get("study", ""), "a folder, such as logs/studies/mlp")
    pruners = ", ".join(PRUNERS)
    check_argument(options["pruner"] in PRUNERS, "pruner", options["pruner"], f"one of {pruners}")
    with hydra.initialize_config_module("digitnet.configs", version_base="1.3"):  # glob(*) looks for options there
        overrides = OverridesParser.create(GlobalHydra.instance().config_loader()).parse_overrides(texts)
        for override in overrides:
            _check_key(override)
        searched = {each.key_or_group: _searched_key(each) for each in overrides if each.is_sweep_override()}
    for name in searched:
        given = [str(each.input_line) for each in overrides if each.key_or_group == name]
        if len(given) > 1:
            raise UsageError(f"{name}: given {len(given)} times ({' and '.join(given)}), and searched; give it once")
    if not searched:
        raise UsageError("no key to search; add one such as 'optimizer.lr=tag(log,interval(1e-4,1e-1))'")
    return SweepSettings(
        study_dir=Path(options["study"]),
        trials=_positive_integer("trials", options.get("trials", "")),
        pruner=options["pruner"],
        seeds=_positive_integer("seeds", options["seeds"]),
        flags=tuple(flags),
        fixed=tuple(str(each.input_line) for each in overrides if each.key_or_group not in searched),
        searched=searched,
    )


def _parse_options(words: list[str]) -> dict[str, str]:
    """Return the values of the options of the sweep, each of which may be given once."""
    options: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if name not in _OPTIONS:
            continue
        if not equals:
            raise UsageError(f"{name}: has no value; type {name}=VALUE")
        if name in options:
            raise UsageError(f"{name}: given twice ({name}={options[name]} and {word}); give it once")
        options[name] = value
    return options


def short(value: Any) -> str:
    """Return the text of a parameter for people."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _positive_integer(name: str, text: str) -> int:
    check_argument(text.isdecimal() and int(text) > 0, name, text, "a whole number above 0")
    return int(text)


def _check_key(override: Override) -> None:
    """Refuse overrides that are not those of a trial."""
    key, is_searched = override.key_or_group, override.is_sweep_override()
    if key in ("resume", "run_dir") or (key.startswith("hydra") and key != "hydra.searchpath"):
        hint = _SEARCHED_ELSEWHERE.get(key, "study=DIR names the folder")
        raise UsageError(f"{override.input_line}: not in a sweep; {hint}")
    if key == "test" and (is_searched or override.value() is True):
        raise UsageError(f"{override.input_line}: not in a sweep; {_SEARCHED_ELSEWHERE[key]}")
    if key == "seed" and is_searched:
        raise UsageError(f"{override.input_line}: the seed is not searched; {_SEARCHED_ELSEWHERE[key]}")


def _searched_key(override: Override) -> SearchedKey:
    """Translate Hydra's grammar of sweeps to a distribution of Optuna."""
    value: Any = override.value()
    tags: set[str] = getattr(value, "tags", set())
    log = "log" in tags
    try:
        if tags - {"log"} or (log and override.is_choice_sweep()):
            raise ValueError("the only tag is log, for an interval or a range")
        if override.is_choice_sweep():
            choices = _choices(override)
            distribution: BaseDistribution = CategoricalDistribution(choices)
            extremes = choices
        else:
            distribution = _number_distribution(value, log)
            extremes = (distribution.low, distribution.high)
    except ValueError as error:
        raise UsageError(f"{override.input_line}: {error}") from error
    return SearchedKey(override.get_key_element(), str(override.input_line), distribution, extremes)


def _choices(override: Override) -> tuple[Any, ...]:
    """Return the options of a choice: numbers and booleans as they are, all others in Hydra's grammar."""
    plain = override.sweep_iterator(transformer=Transformer.identity)
    texts = override.sweep_string_iterator()
    return tuple(
        value if isinstance(value, bool | int | float) else text for value, text in zip(plain, texts, strict=True)
    )


def _number_distribution(value: Any, log: bool) -> FloatDistribution | IntDistribution:
    """Return the distribution of an interval or a range of numbers."""
    step: float | None = None
    if isinstance(value, IntervalSweep):
        low, high = value.start, value.end
    else:
        assert isinstance(value, RangeSweep)
        numbers = sorted(value.range())
        if not numbers:
            raise ValueError("the range is empty")
        low, high, step = numbers[0], numbers[-1], abs(value.step)
    assert low is not None
    assert high is not None
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, log=log, step=int(step or 1))
    return FloatDistribution(low, high, log=log, step=step)
