"""Reading pictures in Python: `digitnet.read` and `DigitReader`."""

import multiprocessing
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import digitnet
from digitnet.checkpoints import pretrained
from digitnet.data import mnist
from digitnet.errors import UsageError
from digitnet.inference import reader as reader_module
from digitnet.inference.reader import MIN_CONFIDENCE, DigitReader, ReadResult
from tests.inference.samples import IMAGES, digit_picture, label, save_digit, scribble


@pytest.fixture(scope="module")
def reader() -> DigitReader:
    return DigitReader("cnn")


def test_a_path_an_image_and_an_array_are_read_alike(tmp_path: Path) -> None:
    path = save_digit(tmp_path / "photo.png", 0)
    array = np.asarray(digit_picture(0))
    sources: list[Any] = [path, str(path), digit_picture(0), array, array / 255, IMAGES[0].numpy()]
    for source in sources:
        result = digitnet.read(source, model="cnn")
        assert (result.text, result.summary) == (label(0), label(0))
        assert result.digits[0].image.shape == (28, 28)
    with pytest.raises(UsageError, match="is not a picture; give a path"):
        digitnet.read(IMAGES[0])
    assert digitnet.read(path, model=pretrained.load("mlp")).text == label(0)


def test_reading_leaves_a_model_in_training_mode_and_unchanged() -> None:
    model = digitnet.CNN(channels=[4, 8], dropout=0.5).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    once, again = (digitnet.read(digit_picture(0), model=model).digits[0].probabilities for _ in range(2))
    assert once == again, "dropout is off"
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(module.training for module in model.modules())


def test_a_model_is_loaded_once_for_several_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    reader_module._cached_reader.cache_clear()
    loaded = []
    load = pretrained.load
    monkeypatch.setattr(pretrained, "load", lambda model: (loaded.append(model), load(model))[1])
    texts = [digitnet.read(digit_picture(index), model="mlp").text for index in range(3)]
    assert texts == [label(index) for index in range(3)]
    assert loaded == ["mlp"]


def test_many_files_are_read_in_parallel_with_the_same_results(
    reader: DigitReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [save_digit(tmp_path / f"{index}.png", index) for index in range(80)]
    paths[13].write_bytes(b"not a picture")
    one_by_one: list[ReadResult | UsageError] = []
    for path in paths:
        try:
            one_by_one.append(reader.read(path))
        except UsageError as error:
            one_by_one.append(error)
    start_methods = []
    get_context = multiprocessing.get_context
    monkeypatch.setattr(
        multiprocessing, "get_context", lambda method: (start_methods.append(method), get_context(method))[1]
    )
    together = list(reader.read_files(paths))
    assert start_methods == ["spawn"] or len(os.sched_getaffinity(0)) == 1
    assert len(together) == 80
    for index, (single, parallel) in enumerate(zip(one_by_one, together, strict=True)):
        if index == 13:
            assert isinstance(parallel, UsageError)
            assert str(parallel) == str(single)
            continue
        assert isinstance(single, ReadResult)
        assert isinstance(parallel, ReadResult)
        assert single.text == parallel.text
        assert single.text in (label(index), "?"), "it may be uncertain, but not wrong"
        assert np.array_equal(single.digits[0].image, parallel.digits[0].image)
        assert single.digits[0].probabilities == pytest.approx(parallel.digits[0].probabilities, abs=1e-5)
    texts = [result.text for result in together if isinstance(result, ReadResult)]
    assert texts.count("?") <= 2, "of 79"


def test_most_scribbles_are_not_read_with_confidence(reader: DigitReader) -> None:
    summaries = [reader.read(scribble(seed)).summary for seed in range(20)]
    assert sum(summary in ("not sure", "no digit") for summary in summaries) >= 12


def test_noise_is_not_read_as_a_digit(reader: DigitReader) -> None:
    for seed in range(20):
        noise = np.random.default_rng(seed).integers(0, 256, (200, 200), dtype=np.uint8)
        assert reader.read(noise).summary in ("not sure", "no digit")


@pytest.mark.parametrize("name", ["cnn", "mlp"])
def test_the_confidence_of_a_bundled_model_is_calibrated_on_the_test_images(name: str) -> None:
    reader, (images, labels) = DigitReader(name), mnist.load_mnist("test")
    logits = reader.logits(images)
    confidences, predictions = reader.calibrate_logits(logits).max(dim=1)
    confident = (confidences >= MIN_CONFIDENCE) & (logits.logsumexp(dim=1) >= reader.calibration.energy_threshold)
    assert 0.002 < (~confident).float().mean() <= 0.02
    assert (predictions == labels)[confident].float().mean() > 0.995
    assert abs(confidences.mean() - (predictions == labels).float().mean()) < 0.002
