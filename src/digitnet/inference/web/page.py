"""The HTML of the page: its template, and the answer to a picture."""

import base64
import html
import io
import tempfile
from collections.abc import Mapping
from importlib import resources

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from digitnet.errors import UsageError
from digitnet.inference.reader import DigitReader, ReadResult


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
    """Render the network's inputs, and the predictions of each model.

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
    sections = [_render_model(name, result, largest) for name, result in results.items()]
    return f'<figure>{"".join(images)}</figure><div class="models">{"".join(sections)}</div>'


def _render_model(title: str, result: ReadResult, largest: int) -> str:
    """Render the digits that one model has read, with bars of the probabilities for the digit at index `largest`."""
    all_confident = all(digit.is_confident for digit in result.digits)
    text = html.escape(result.text) + ("" if all_confident else " not sure") or "no digit"
    probabilities = result.digits[largest].probabilities if result.digits else (0.0,) * len(result.class_names)
    bars = [
        f'<div>{html.escape(name)}<i><b style="width: {probability:.1%}"></b></i><span>{probability:.1%}</span></div>'
        for name, probability in zip(result.class_names, probabilities, strict=True)
    ]
    return f"<section><h2>{html.escape(title)} <output>{text}</output></h2>{''.join(bars)}</section>"


def _to_data_url(image: NDArray[np.uint8]) -> str:
    """Return an image as the data URL of a PNG file."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
