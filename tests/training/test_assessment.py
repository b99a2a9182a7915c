"""The figures of an evaluation against independent computations, and against values that are known."""

import math

import pytest
import torch
from torchmetrics.functional.classification import multiclass_calibration_error

from digitnet.analysis.statistics import wilson_interval
from digitnet.data.mnist import disputed_test_labels, load_mnist
from digitnet.training.assessment import HeldOut, assess, score_probabilities, worst_mistakes

NAMES = [f"class {number}" for number in range(10)]


def sample(n: int, seed: int, temperature: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits, of which `logits / temperature` are those that the labels were drawn from."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(n, 10, generator=generator)
    labels = torch.multinomial(logits.softmax(dim=1), 1, generator=generator).flatten()
    return logits * temperature, labels


@pytest.mark.parametrize("temperature", [0.7, 1.0, 1.6, 2.5])
def test_the_temperature_is_the_one_that_the_labels_were_drawn_with(temperature: float) -> None:
    held_out, test = HeldOut(*sample(20_000, 1, temperature)), sample(20_000, 2, temperature)
    result = assess(*test, NAMES, held_out)
    assert result.scaling is not None
    assert result.scaling.temperature == pytest.approx(temperature, abs=0.051)
    assert result.scaling.source == "20,000 validation images"
    assert result.scaling.scores.ece < 0.02
    if abs(temperature - 1) > 0.2:
        assert result.scaling.scores.nll < result.scores.nll
        assert result.scaling.scores.brier < result.scores.brier
        assert result.scores.ece > 3 * result.scaling.scores.ece


def test_the_temperature_does_not_depend_on_the_test_images() -> None:
    held_out = HeldOut(*sample(5000, 1, 1.5))
    temperatures = {assess(*sample(500, 2, each), NAMES, held_out).scaling.temperature for each in (0.5, 1.0, 3.0)}
    assert len(temperatures) == 1


def test_brier_score_nll_and_ece_agree_with_sums_over_the_images_and_with_torchmetrics() -> None:
    logits, labels = sample(500, 3)
    scores = score_probabilities(logits.double(), labels)
    brier = nll = 0.0
    for row, label in zip(logits.double(), labels.tolist(), strict=True):
        exponentials = [math.exp(value) for value in row.tolist()]
        p = [value / sum(exponentials) for value in exponentials]
        brier += sum((value - (index == label)) ** 2 for index, value in enumerate(p)) / 500
        nll -= math.log(p[label]) / 500
    ece = multiclass_calibration_error(logits.softmax(dim=1), labels, num_classes=10, n_bins=15)
    assert scores == pytest.approx((nll, brier, float(ece)), abs=1e-6)


def test_precision_recall_and_f1_are_counted_by_class() -> None:
    predicted, labels = torch.tensor([0, 0, 0, 1, 1, 2]), torch.tensor([0, 0, 1, 1, 2, 1])
    logits = 5 * torch.nn.functional.one_hot(predicted, 4).float()
    classes = assess(logits, labels, ["a", "b", "c", "d"], "none").classes
    assert classes[0] == pytest.approx(("a", 2, 2 / 3, 1, 0.8))
    assert classes[1] == pytest.approx(("b", 3, 1 / 2, 1 / 3, 0.4))
    assert classes[2] == ("c", 1, 0, 0, 0)
    assert classes[3] == ("d", 0, 0, 0, 0)


def test_the_worst_mistakes_are_the_wrong_images_with_the_highest_loss() -> None:
    logits, labels = sample(300, 4)
    losses = -logits.log_softmax(dim=1)[torch.arange(300), labels]
    expected = sorted((i for i in range(300) if logits[i].argmax() != labels[i]), key=lambda i: -losses[i])
    assert worst_mistakes(logits, labels).tolist() == expected
    first = assess(logits, labels, NAMES, "none").mistakes[0]
    assert first.position == expected[0]
    assert first.actual == f"class {labels[expected[0]]}"
    assert first.confidence == pytest.approx(float(logits[expected[0]].softmax(dim=0).max()))


def test_disputed_labels_are_left_out_of_the_second_accuracy_only() -> None:
    labels = load_mnist("test")[1].long()
    disputed = disputed_test_labels()
    predicted = labels.clone()
    for position, majority in disputed.items():
        predicted[position] = (labels[position] + 1) % 10 if majority is None else majority
    predicted[0] = 0  # a 7
    result = assess(5 * torch.nn.functional.one_hot(predicted, 10).float(), labels, NAMES, "none", disputed=disputed)
    assert result.accuracy == pytest.approx(1 - 16 / 10_000)
    assert result.undisputed_accuracy == pytest.approx(1 - 1 / 9985)
    assert result.interval == wilson_interval(1 - 16 / 10_000, 10_000)


def test_the_fifteen_disputed_labels_have_another_majority_or_none() -> None:
    labels, disputed = load_mnist("test")[1], disputed_test_labels()
    assert len(disputed) == 15
    assert sum(majority is None for majority in disputed.values()) == 5
    assert all(0 <= position < 10_000 and majority != int(labels[position]) for position, majority in disputed.items())


def test_without_held_out_images_there_is_the_known_temperature_or_none_and_the_reason_is_kept() -> None:
    logits, labels = sample(400, 5, 2.0)
    known, unknown = (assess(logits, labels, NAMES, "no images", value) for value in (2.0, None))
    assert known.scaling is not None
    assert (known.scaling.temperature, known.scaling.source) == (2.0, "the model's card")
    assert unknown.scaling is None
    assert known.conformal is unknown.conformal is None
    assert unknown.to_json()["unavailable"] == "no images"
