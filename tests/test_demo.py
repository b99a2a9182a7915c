"""The command `digitnet-demo`: its page in a real browser, and what its server accepts and connects to."""

import base64
import contextlib
import functools
import io
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from digitnet import demo
from digitnet.data import mnist
from digitnet.inference.web.server import MAX_PHOTO_BYTES
from tests.conftest import spawn

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
CUSTOM_MODEL = Path(__file__).parent / "golden" / "0.1.0-mlp.ckpt"

Stroke = list[tuple[float, float]]

# Points of the strokes of a handwritten digit, from 0 to 1, from left to right and from top to bottom.
STROKES: dict[int, list[Stroke]] = {
    0: [[(0.5, 0), (0.2, 0.1), (0.02, 0.4), (0.1, 0.8), (0.45, 1), (0.8, 0.85), (0.98, 0.5), (0.85, 0.15), (0.5, 0)]],
    1: [[(0.65, 0), (0.55, 0.5), (0.4, 1)]],
    2: [[(0.05, 0.2), (0.25, 0.03), (0.6, 0), (0.9, 0.15), (0.85, 0.4), (0.5, 0.7), (0.05, 1), (0.4, 0.96), (1, 0.98)]],
    3: [
        [
            (0.1, 0.08),
            (0.5, 0),
            (0.9, 0.15),
            (0.8, 0.38),
            (0.4, 0.47),
            (0.85, 0.58),
            (0.95, 0.8),
            (0.6, 1),
            (0.05, 0.92),
        ]
    ],
    4: [[(0.25, 0), (0.08, 0.55), (0.95, 0.5)], [(0.75, 0.05), (0.65, 1)]],
    5: [
        [(0.15, 0), (0.1, 0.45), (0.55, 0.38), (0.92, 0.6), (0.8, 0.92), (0.4, 1), (0.05, 0.9)],
        [(0.15, 0), (0.9, 0.02)],
    ],
    6: [[(0.75, 0), (0.35, 0.25), (0.08, 0.65), (0.25, 0.97), (0.7, 0.97), (0.9, 0.7), (0.6, 0.52), (0.12, 0.68)]],
    7: [[(0.05, 0.05), (0.95, 0), (0.6, 0.45), (0.4, 1)]],
    8: [
        [(0.85, 0.1), (0.45, 0), (0.12, 0.2), (0.45, 0.45), (0.88, 0.72), (0.6, 1), (0.15, 0.92), (0.15, 0.68)],
        [(0.15, 0.68), (0.55, 0.45), (0.9, 0.2), (0.8, 0.08)],
    ],
    9: [[(0.9, 0.15), (0.5, 0), (0.1, 0.2), (0.3, 0.48), (0.8, 0.4), (0.9, 0.12), (0.85, 0.5), (0.7, 1)]],
}

# Record when the last stroke ended and when the answer on the page changed.
PROBE = """
window.listening || document.addEventListener('pointerup', event => { window.up = performance.now(); }, true);
window.listening || new MutationObserver(() => { window.changed = performance.now(); }).observe(
    document.querySelector('.answer'), {subtree: true, childList: true, characterData: true, attributes: true});
window.listening = true;
performance.clearResourceTimings();
"""
# Wait for the answer to the last stroke; return the milliseconds from the end of the stroke to the answer.
SETTLE = """async () => {
    const asked = () => performance.getEntriesByType('resource').filter(
        entry => entry.name.includes('/component_server') && entry.startTime >= window.up - 1);
    const wait = () => new Promise(done => setTimeout(done, 5));
    while (!asked().length) await wait();
    const came = asked().pop().responseEnd;
    while (!(window.changed >= came) && performance.now() < came + 500) await wait();
    return Math.max(came, window.changed) - window.up;
}"""


class Server:
    """A process of `python -m digitnet.demo` that records every host that it connects to or looks up."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.record = folder / "record.txt"
        (folder / "sitecustomize.py").write_text(
            "import sys\n"
            "def hook(event, arguments):\n"
            "    if event in ('socket.connect', 'socket.sendto', 'socket.getaddrinfo'):\n"
            f"        with open({str(self.record)!r}, 'a') as file:\n"
            "            print(arguments[0] if event == 'socket.getaddrinfo' else arguments[1][0], file=file)\n"
            "sys.addaudithook(hook)\n"
        )
        unwanted = {"GRADIO_SERVER_NAME": "0.0.0.0", "GRADIO_SHARE": "True", "GRADIO_ANALYTICS_ENABLED": "True"}
        environment = os.environ | unwanted | {"http_proxy": "http://192.0.2.1:9", "PYTHONPATH": str(folder)}
        command = [sys.executable, "-m", "digitnet.demo", "--port=0", *arguments]
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    @functools.cached_property
    def line(self) -> str:
        """The line that it prints once it serves the page."""
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    @property
    def address(self) -> str:
        return self.line.split(" ")[0]

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    @functools.cache  # noqa: B019  one server per module
    def stop(self) -> tuple[int, str]:
        """Return the exit status after Ctrl-C, and everything that was printed besides the line."""
        self.process.send_signal(signal.SIGINT)
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out + err


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    pytest.importorskip("gradio", reason="gradio is not installed: pip install -e .[demo]")
    started = Server(tmp_path_factory.mktemp("server"), f"--model={CUSTOM_MODEL}")
    yield started
    started.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install -e .[test]"
    )
    if CHROMIUM is None:
        pytest.skip("neither chromium nor google-chrome is installed")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def page(browser: Any, server: Server) -> Iterator[Any]:
    """One page for all tests, in the order of the module; `requests` has the address of every request."""
    with visit(browser, server, viewport={"width": 1200, "height": 640}) as page:
        yield page


@contextlib.contextmanager
def visit(browser: Any, server: Server, **options: Any) -> Iterator[Any]:
    page = browser.new_page(**options)
    page.requests, page.errors = [], []
    page.on("request", lambda request: page.requests.append(request.url))
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.goto(server.address)
    page.locator("canvas").wait_for()
    yield page
    page.close()


def write(page: Any, digit: int, left: float = 0.3, top: float = 0.2, height: float = 0.62) -> float:
    """Draw a digit with the mouse, placed in units of the canvas's height; return the milliseconds to its answer."""
    box = page.locator("canvas").bounding_box()
    page.evaluate(PROBE)
    for stroke in STROKES[digit]:
        for number, (x, y) in enumerate(curve(stroke)):
            page.mouse.move(
                box["x"] + box["height"] * (left + 0.6 * height * x), box["y"] + box["height"] * (top + height * y)
            )
            if number == 0:
                page.mouse.down()
        page.mouse.up()
    milliseconds = page.evaluate(SETTLE)
    return float(milliseconds)


def curve(stroke: Stroke) -> Stroke:
    """Return points on a smooth curve through all points of a stroke (Catmull-Rom)."""
    points = np.array([stroke[0], *stroke, stroke[-1]])
    drawn = [stroke[0]]
    for a, b, c, d in zip(points, points[1:], points[2:], points[3:], strict=False):
        for t in (0.25, 0.5, 0.75, 1):
            bend = (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3
            drawn.append(tuple(b + bend / 2))
    return drawn


def answers(page: Any) -> list[str]:
    return list(page.locator("output").all_inner_texts())


def clear(page: Any) -> None:
    page.get_by_role("button", name="Clear").click()
    page.locator("output", has_text="no digit").first.wait_for()


def test_all_ten_digits_are_read_when_drawn_with_the_mouse(page: Any) -> None:
    read, milliseconds = {}, []
    for digit in STROKES:
        clear(page)
        milliseconds.append(write(page, digit, left=0.15 + 0.06 * digit, top=0.12 + 0.02 * digit))
        read[digit] = answers(page)
    print(f"{read}; ms from the end of the stroke to the answer: {[round(each) for each in milliseconds]}")
    assert [cnn for cnn, *_ in read.values()] == [str(digit) for digit in STROKES]
    assert sum(mlp == str(digit) for digit, (_, mlp, _) in read.items()) >= 8
    assert statistics.median(milliseconds) < 1000


def test_the_page_shows_the_input_and_ten_probabilities_of_each_model(page: Any) -> None:
    clear(page)
    assert page.locator("figure img").count() == 0
    write(page, 3)
    seen = page.locator("figure img")
    assert seen.evaluate("image => [image.naturalWidth, image.naturalHeight]") == [28, 28]
    assert seen.evaluate("image => getComputedStyle(image).imageRendering") == "pixelated"
    titles = page.locator("h2").all_inner_texts()
    assert [title.split()[0] for title in titles] == ["CNN", "MLP", str(CUSTOM_MODEL)]
    for bars in page.locator("section").all():
        shares = [float(text.rstrip("%")) for text in bars.locator("span").all_inner_texts()]
        assert len(shares) == 10
        assert sum(shares) == pytest.approx(100, abs=1)
    widest = page.locator("section").first.locator("b").evaluate_all("bars => bars.map(bar => bar.offsetWidth)")
    assert int(np.argmax(widest)) == 3
    assert answers(page)[:2] == ["3", "3"]  # the custom model has hardly been trained


def test_several_digits_are_read_from_left_to_right(page: Any) -> None:
    clear(page)
    write(page, 7, left=0.7, top=0.25, height=0.4)
    write(page, 2, left=0.2, top=0.2, height=0.6)
    assert answers(page)[:2] == ["27", "27"]
    pictures = page.locator("figure img").evaluate_all("images => images.map(image => image.className)")
    assert pictures == ["largest", ""]  # the bars show the larger digit


def test_the_most_probable_class_has_the_top_bar(page: Any) -> None:
    clear(page)
    write(page, 6)
    page.wait_for_timeout(500)  # the bars have moved
    rows = page.locator("section").first.locator(".bars div")
    tops = rows.evaluate_all("rows => rows.map(row => row.getBoundingClientRect().top)")
    assert int(np.argmin(tops)) == 6


def test_undo_removes_the_last_stroke(page: Any) -> None:
    clear(page)
    write(page, 2, left=0.1)
    write(page, 1, left=0.8)
    assert answers(page)[0] == "21"
    page.get_by_role("button", name="Undo").click()
    page.locator("output", has_text=re.compile("^2$")).first.wait_for()


def test_an_example_is_read_with_the_keyboard_alone(page: Any) -> None:
    clear(page)
    page.get_by_role("button", name="Example: the digits 2026").focus()
    page.keyboard.press("Enter")
    page.locator("output", has_text="2026").first.wait_for()


def test_a_drawing_that_is_not_a_digit_is_answered_in_words(page: Any) -> None:
    page.get_by_role("button", name="Example: a house").click()
    page.locator("section").first.get_by_text("it may not be a digit").wait_for()
    assert answers(page)[:2] == ["?", "?"]


def test_a_cleared_canvas_has_no_digit(page: Any) -> None:
    write(page, 5)
    clear(page)
    assert answers(page) == ["no digit"] * 3


@pytest.mark.parametrize("way", ["chosen", "dropped", "pasted"])
@pytest.mark.parametrize("index", [0, 1])
def test_a_photo_is_read_when_chosen_dropped_or_pasted(page: Any, way: str, index: int) -> None:
    clear(page)
    images, labels = mnist.load_mnist("test")
    picture = Image.fromarray(images[index].numpy()).resize((420, 420), Image.Resampling.BICUBIC)
    give_file(page, png(picture), way)
    page.locator("output", has_text=str(int(labels[index]))).first.wait_for()
    assert answers(page)[:2] == [str(int(labels[index]))] * 2
    middle = "canvas => canvas.getContext('2d').getImageData(60, 10, 1, 1).data[0]"
    page.wait_for_function(
        f"({middle})(document.querySelector('canvas')) < 50"
    )  # the canvas shows the photo, which has a black ground
    write(page, 1)  # the next stroke removes it
    assert answers(page)[0] == "1"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x89PNG" + bytes(MAX_PHOTO_BYTES), "The picture is larger than 20 MB; scale it down"),
        (b"<b>not a picture</b>", "convert it to JPEG or PNG"),
        (b"", "is empty"),
    ],
    ids=["oversize", "text", "empty"],
)
def test_a_file_that_is_not_a_picture_is_reported_in_one_line_and_the_page_keeps_working(
    page: Any, content: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / "photo.png").write_bytes(content)
    page.set_input_files("input[type=file]", tmp_path / "photo.png")
    page.get_by_role("alert").wait_for()
    line = page.get_by_role("alert").inner_text()
    assert message in line
    assert "\n" not in line
    assert "tmp" not in line
    write(page, 1)
    assert answers(page)[0] == "1"


def test_a_digit_is_read_when_drawn_with_a_finger(browser: Any, server: Server) -> None:
    with visit(browser, server, viewport={"width": 400, "height": 800}, has_touch=True, is_mobile=True) as page:
        box = page.locator("canvas").bounding_box()
        assert box["width"] < 400
        touch = page.context.new_cdp_session(page)
        page.evaluate(PROBE)
        for number, (x, y) in enumerate(curve(STROKES[7][0])):
            point = {"x": box["x"] + box["height"] * (0.3 + 0.3 * x), "y": box["y"] + box["height"] * (0.2 + 0.6 * y)}
            kind = "touchMove" if number else "touchStart"
            touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [point]})
        touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        page.evaluate(SETTLE)
        assert answers(page)[:2] == ["7", "7"]
        assert page.evaluate("window.scrollY") == 0
        assert page.evaluate("document.documentElement.scrollWidth") <= 400


def test_the_page_sends_requests_to_this_machine_only(page: Any) -> None:
    assert {url for url in page.requests if not url.startswith(("http://127.0.0.1:", "data:", "blob:"))} == set()
    assert page.errors == []


def test_only_this_machine_can_connect(server: Server) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        probe.connect(("192.0.2.1", 9))  # sends nothing, but selects the address of this machine in its network
        outside = probe.getsockname()[0]
    for host in {"127.0.0.2", outside} - {"127.0.0.1", "0.0.0.0"}:
        with pytest.raises(OSError):  # noqa: PT011  refused, or no such address
            socket.create_connection((host, server.port), timeout=5).close()
    socket.create_connection(("127.0.0.1", server.port), timeout=5).close()


@pytest.mark.parametrize("path", ["/etc/hostname", str(Path(demo.__file__)), "pyproject.toml", "record.txt"])
def test_the_server_does_not_serve_files(server: Server, path: str) -> None:
    assert fetch(f"{server.address}/gradio_api/file={path}")[0] in (403, 404)


def test_the_server_has_no_public_endpoints(server: Server) -> None:
    status, body = fetch(f"{server.address}/gradio_api/info")
    assert status == 200
    assert json.loads(body) == {"named_endpoints": {}, "unnamed_endpoints": {}}
    assert fetch(f"{server.address}/gradio_api/runs")[0] == 404
    assert fetch(f"{server.address}/monitoring")[0] in (401, 403, 404)


def test_the_server_limits_the_size_of_an_upload(server: Server) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n' + bytes(MAX_PHOTO_BYTES + 1)
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    assert fetch(f"{server.address}/gradio_api/upload", body + b"\r\n--x--\r\n", kind)[0] == 413


def test_ctrl_c_stops_the_server_which_has_connected_to_this_machine_only(server: Server) -> None:
    assert server.line == f"http://127.0.0.1:{server.port} serves the page; press Ctrl-C to stop\n"
    assert server.stop() == (130, "")
    assert set(server.record.read_text().split()) <= {"127.0.0.1", "localhost"}


def test_the_page_reports_that_the_server_has_stopped(server: Server, page: Any) -> None:
    server.stop()
    page.get_by_role("button", name="Clear").click()
    page.get_by_role("alert").filter(has_text="start digitnet.demo again").wait_for()


def test_help_imports_neither_torch_nor_gradio(tmp_path: Path) -> None:
    for name in ("torch", "gradio"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported')")
    done = spawn("digitnet.demo", "--help", folder=tmp_path, PYTHONPATH=str(tmp_path))
    assert (done.status, done.err) == (0, "")
    assert "--port" in done.out


def test_a_missing_gradio_is_reported_with_the_command_that_installs_it(tmp_path: Path) -> None:
    (tmp_path / "gradio.py").write_text("raise ModuleNotFoundError(\"No module named 'gradio'\")")
    done = spawn("digitnet.demo", "--port=0", folder=tmp_path, PYTHONPATH=str(tmp_path))
    assert done.status == 2
    assert done.err.count("\n") == 1
    assert "pip install 'digitnet[demo]'" in done.err


def test_a_port_that_is_taken_or_out_of_range_is_reported(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = spawn("digitnet.demo", f"--port={port}", folder=tmp_path)
    assert done.status == 2
    assert done.err == f"digitnet: error: --port={port}: Address already in use; --port=0 takes a free one\n"
    assert spawn("digitnet.demo", "--port=65536", folder=tmp_path).status == 2


def png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def url(content: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def give_file(page: Any, content: bytes, way: str) -> None:
    """Give the page a file in one of the three ways that it offers."""
    if way == "chosen":
        page.set_input_files("input[type=file]", {"name": "photo.png", "mimeType": "image/png", "buffer": content})
        return
    page.evaluate(
        """async ([url, way]) => {
            const data = new DataTransfer(), content = await (await fetch(url)).blob();
            data.items.add(new File([content], 'photo.png', {type: 'image/png'}));
            document.querySelector('canvas').dispatchEvent(way == 'dropped'
                ? new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true})
                : new ClipboardEvent('paste', {clipboardData: data, bubbles: true}));
        }""",
        [url(content), way],
    )


def fetch(address: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(urllib.request.Request(address, body, headers or {}), timeout=30) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()
