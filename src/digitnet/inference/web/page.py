"""The HTML of the page: its template, and the answer to a picture."""

import base64
import html
import io
import tempfile
from collections.abc import Mapping
from importlib import resources

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from digitnet.data.mnist import load_mnist
from digitnet.errors import UsageError
from digitnet.inference.reader import DigitPrediction, DigitReader, ReadResult


def read_asset(name: str) -> str:
    """Return the text of a file beside this module: "page.html", "page.css" or "page.js"."""
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def predict_html(readers: Mapping[str, DigitReader], picture: str) -> str:
    """Read a picture and return the answer.

    Args:
        readers: Readers by the names of their models.
        picture: The picture as a data URL, as a browser sends it.

    Returns:
        The HTML of the predictions, or of one line that states why this is not a picture.
    """
    with tempfile.NamedTemporaryFile() as file:
        file.write(base64.b64decode(picture.partition(",")[2]))
        file.flush()
        try:
            return render_html({name: reader.read(file.name) for name, reader in readers.items()})
        except UsageError as error:
            return f'<p role="alert">{html.escape(str(error).replace(f"{file.name}:", "The picture"))}</p>'


def render_html(results: Mapping[str, ReadResult]) -> str:
    """Render the networks' inputs, and the predictions of each model.

    Args:
        results: Results for the same picture by the names of the models.

    Returns:
        HTML with the input images, the digits that each model has read, and its ten probabilities for the largest.
    """
    first = next(iter(results.values()))  # the images are the same for all models
    largest = first.digits.index(first.largest_digit) if first.largest_digit else 0
    images = [
        f'<img src="{_to_data_url(digit.image)}" alt="28 × 28" class="{"largest" * (index == largest)}">'
        for index, digit in enumerate(first.digits)
    ]
    caption = "<figcaption>The bars are those of the framed digit.</figcaption>" * (len(images) > 1)
    sections = [_render_model(name, result, largest) for name, result in results.items()]
    return (
        f'<p class="label">What the networks see</p><figure>{"".join(images)}{caption}</figure>'
        f'<div class="models">{"".join(sections)}</div>'
    )


def _render_model(title: str, result: ReadResult, largest: int) -> str:
    """Render the digits that one model has read, with bars of the probabilities for the digit at index `largest`."""
    digit = result.digits[largest] if result.digits else None
    names = result.class_names
    probabilities = digit.probabilities if digit else (0.0,) * len(names)
    order = [label for label, _ in digit.top_classes] if digit else range(len(names))
    ranks = {label: rank for rank, label in enumerate(order)}
    bars = [
        f'<div style="--rank: {ranks[label]}; --share: {probability:.1%}">'
        f"{html.escape(names[label])}<i><b></b></i><span>{probability:.1%}</span></div>"
        for label, probability in enumerate(probabilities)
    ]
    output = f"<output>{html.escape(result.text)}</output>" if digit else '<output class="none">no digit</output>'
    return (
        f"<section><h2>{html.escape(title)} {output}</h2>{_render_hint(digit)}"
        f'<div class="bars" style="--count: {len(names)}">{"".join(bars)}</div></section>'
    )


def _render_hint(digit: DigitPrediction | None) -> str:
    """Render how sure a model is of a digit, and what else it may be."""
    if digit is None:
        return '<p class="hint"></p>'
    name = html.escape(digit.name)
    if not digit.is_confident:
        return f'<p class="hint unsure">Not sure. It is closest to {name}, but it may not be a digit.</p>'
    second, probability = digit.top_classes[1]
    other = f", or {html.escape(digit.class_names[second])} ({probability:.1%})" if probability >= 0.001 else ""
    return f'<p class="hint sure">{name} ({digit.confidence:.1%}){other}</p>'


def render_examples() -> str:
    """Render pictures to click on: digits of the test images, and a drawing that is not a digit."""
    images, labels = load_mnist("test")
    pictures = {}
    for text in ("7", "2026", "31415"):
        picture = Image.new("L", (400, 300), 255)
        size = min(200, 400 // len(text))
        for place, digit in enumerate(text):
            number = int((labels == int(digit)).nonzero()[place])
            ink = Image.fromarray(255 - images[number].numpy()).resize((size, size), Image.Resampling.BICUBIC)
            left = (400 - size * len(text)) // 2 + size * place
            picture.paste(ink, (left, (300 - size) // 2))
        pictures[f"the digits {text}"] = picture
    house = Image.new("L", (400, 300), 255)
    lines = [(120, 140), (200, 60), (280, 140), (120, 140), (120, 240), (280, 240), (280, 140)]
    ImageDraw.Draw(house).line(lines, fill=0, width=13, joint="curve")
    pictures["a house, which is not a digit"] = house
    return "".join(
        f'<button aria-label="Example: {name}"><img src="{_to_data_url(np.asarray(picture))}" alt=""></button>'
        for name, picture in pictures.items()
    )


def _to_data_url(image: NDArray[np.uint8]) -> str:
    """Return an image as the data URL of a PNG file."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
