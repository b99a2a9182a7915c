"""Photograph the pages that a browser shows, for the README and the pages in docs/. Needs chromium and '.[test]'.

python docs/screenshots.py demo                      the page of digitnet-demo
python docs/screenshots.py report FOLDER...          the first sections of a report of these runs
python docs/screenshots.py tensorboard FOLDER...     TensorBoard with these runs, each under the name of its folder
python docs/screenshots.py tensorboard FOLDER... --tabs DIR    also every tab, in light and dark, to look at in DIR
"""

import argparse
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
# The projector draws with WebGL, which a machine without a GPU computes in software.
FLAGS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
TABS = {  # the seconds that each takes to load and draw
    "timeseries": 6,
    "scalars": 6,
    "custom_scalars": 6,
    "images": 6,
    "graphs": 8,
    "distributions": 6,
    "histograms": 6,
    "text": 5,
    "pr_curves": 6,
    "hparams": 6,
    "projector": 12,
}
SHOWN_TABS = ("custom_scalars", "images", "projector", "pr_curves")  # in docs/tensorboard.md
# Strokes in units of the canvas. The middle one is between 4 and 9, so that the bars have something to show.
STROKES = [
    [(0.09, 0.30), (0.15, 0.22), (0.24, 0.22), (0.29, 0.31), (0.25, 0.46), (0.16, 0.62), (0.08, 0.76), (0.31, 0.75)],
    [(0.50, 0.205), (0.42, 0.27), (0.39, 0.40), (0.42, 0.49), (0.49, 0.49), (0.565, 0.42), (0.59, 0.30)],
    [(0.595, 0.20), (0.58, 0.45), (0.56, 0.82)],
    [(0.71, 0.24), (0.80, 0.235), (0.91, 0.22), (0.86, 0.40), (0.81, 0.58), (0.78, 0.78)],
]  # fmt: skip


@contextmanager
def serving(command: list[str], address: str, folder: str | Path = ROOT) -> Iterator[None]:
    """Run a server in a folder until the block ends; the block starts when the address answers."""
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            for _ in range(240):
                try:
                    urllib.request.urlopen(address, timeout=2).close()
                    break
                except OSError:
                    time.sleep(0.5)
            yield
        finally:
            server.terminate()


def save(page: "Page", path: Path, **options: object) -> None:
    """Photograph a page, with 128 colours: half the bytes, and no difference that is seen."""
    page.screenshot(path=path, **options)  # type: ignore[arg-type]
    quantize(Image.open(path), path)


def quantize(picture: Image.Image, path: Path) -> None:
    picture.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)


def photograph_demo(browser: "Browser", run_dirs: list[Path], tabs: Path | None) -> None:
    """Photograph the demo page with digits drawn on it."""
    with serving([sys.executable, "-m", "digitnet.demo", "--port", "6108"], "http://127.0.0.1:6108"):
        page = browser.new_page(viewport={"width": 1100, "height": 760})
        page.goto("http://127.0.0.1:6108")
        page.locator("canvas").wait_for()
        box = page.locator("canvas").bounding_box()
        assert box is not None
        for stroke in STROKES:
            for number, (x, y) in enumerate(smooth(stroke)):
                page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
                if number == 0:
                    page.mouse.down()
            page.mouse.up()
        page.locator("output", has_text="7").first.wait_for(timeout=60_000)
        page.wait_for_timeout(2000)
        root = page.locator("header").bounding_box()
        answer = page.locator(".answer").bounding_box()
        assert root is not None
        assert answer is not None
        bottom = answer["y"] + answer["height"] + 16
        clip = {
            "x": root["x"] - 20,
            "y": root["y"] - 12,
            "width": root["width"] + 40,
            "height": bottom - root["y"] + 12,
        }
        save(page, IMAGES / "demo.png", clip=clip)


def smooth(stroke: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return points on a smooth curve through the points of a stroke."""
    import numpy as np
    from scipy.interpolate import make_interp_spline

    points = np.array(stroke)
    spline = make_interp_spline(np.arange(len(points)), points, k=min(3, len(points) - 1))
    return [tuple(point) for point in spline(np.linspace(0, len(points) - 1, 8 * len(points)))]


def photograph_report(browser: "Browser", run_dirs: list[Path], tabs: Path | None) -> None:
    """Photograph the first sections of a report."""
    with tempfile.TemporaryDirectory() as folder:
        page_file = Path(folder, "report.html")
        command = [sys.executable, "-m", "digitnet.report", *map(str, run_dirs), "-o", str(page_file)]
        subprocess.run(command, check=True)
        page = browser.new_page(viewport={"width": 1100, "height": 860})
        page.goto(page_file.as_uri())
        save(page, IMAGES / "report.png")


def photograph_tensorboard(browser: "Browser", run_dirs: list[Path], tabs: Path | None) -> None:
    """Photograph tabs of TensorBoard: four of them in one picture, or also each one in light and dark."""
    with tempfile.TemporaryDirectory() as folder:
        for run_dir in run_dirs:
            Path(folder, run_dir.name).symlink_to(run_dir.resolve())
        address = "http://127.0.0.1:6107"
        command = [sys.executable, "-m", "tensorboard.main", "--logdir", folder, "--port", "6107"]
        with serving(command, address, folder):
            time.sleep(5)  # it reads the events after it has answered
            pictures = {tab: open_tab(browser, f"{address}/?darkMode=false#{tab}", tab) for tab in SHOWN_TABS}
            quantize(montage([pictures[tab] for tab in SHOWN_TABS]), IMAGES / "tensorboard.png")
            for tab in TABS if tabs else ():
                for theme, dark in {"light": "false", "dark": "true"}.items():
                    open_tab(browser, f"{address}/?darkMode={dark}#{tab}", tab).save(tabs / f"{tab}-{theme}.png")  # type: ignore[operator]


def open_tab(browser: "Browser", address: str, tab: str) -> Image.Image:
    """Return a picture of a tab of TensorBoard."""
    import io

    page = browser.new_page(viewport={"width": 1100, "height": 760})
    page.goto(address)
    page.wait_for_timeout(1000 * TABS[tab])
    picture = Image.open(io.BytesIO(page.screenshot()))
    page.close()
    return picture


def montage(pictures: list[Image.Image], columns: int = 2, width: int = 800) -> Image.Image:
    """Return pictures of one size side by side, scaled down."""
    height = round(pictures[0].height * width / pictures[0].width)
    rows = -(-len(pictures) // columns)
    gap = 12
    result = Image.new("RGB", (columns * width + (columns - 1) * gap, rows * height + (rows - 1) * gap), "white")
    for index, picture in enumerate(pictures):
        row, column = divmod(index, columns)
        small = picture.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
        result.paste(small, (column * (width + gap), row * (height + gap)))
    return result


def main() -> None:
    from playwright.sync_api import sync_playwright

    pages = {"demo": photograph_demo, "report": photograph_report, "tensorboard": photograph_tensorboard}
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("page", choices=pages, help="what to photograph")
    parser.add_argument("runs", nargs="*", type=Path, metavar="FOLDER", help="run folders of the report or TensorBoard")
    parser.add_argument("--tabs", type=Path, metavar="DIR", help="also write every tab of TensorBoard to this folder")
    parser.add_argument("--chromium", default="/usr/bin/chromium", help="the browser (default: /usr/bin/chromium)")
    options = parser.parse_args()
    if options.tabs:
        options.tabs.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=options.chromium, args=FLAGS)
        pages[options.page](browser, options.runs, options.tabs)
        browser.close()


if __name__ == "__main__":
    main()
