"""The HTML of the demo page."""

import base64
import io

import pytest
from PIL import Image, ImageDraw

from digitnet.inference.reader import DigitReader, ReadResult
from digitnet.inference.web.page import predict_html, read_asset, render_html


@pytest.fixture(scope="module")
def readers() -> dict[str, DigitReader]:
    return {"CNN": DigitReader("cnn"), "<own>": DigitReader("mlp")}


def data_url(picture: Image.Image) -> str:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def test_the_answer_has_the_input_once_and_the_escaped_name_and_digit_of_each_model(
    readers: dict[str, DigitReader],
) -> None:
    picture = Image.new("L", (400, 300), 255)
    ImageDraw.Draw(picture).line([(210, 60), (190, 240)], fill=0, width=15)
    answer = predict_html(readers, data_url(picture))
    assert answer.count("<output>1</output>") == 2
    assert "&lt;own&gt;" in answer
    assert answer.count("<img") == 1


@pytest.mark.parametrize("picture", ["", "data:,", "data:image/png;base64,aGFsbG8="])
def test_a_data_url_without_a_picture_is_answered_with_an_alert(readers: dict[str, DigitReader], picture: str) -> None:
    assert predict_html(readers, picture).startswith('<p role="alert">The picture')


def test_before_the_first_picture_every_model_shows_no_digit() -> None:
    page = render_html({"CNN": ReadResult(()), "MLP": ReadResult(())})
    assert page.count(">no digit</output>") == 2
    assert page.count("<span>0.0%</span>") == 20


@pytest.mark.parametrize("name", ["page.html", "page.css", "page.js"])
def test_the_files_of_the_page_are_part_of_the_package(name: str) -> None:
    assert read_asset(name).strip()
