"""Measure how fast photographs are read: a small one, one of 12 megapixels, and a thousand files.

python benchmarks/image_throughput.py        writes benchmarks/results/image_throughput.json
"""

import io
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

import harness
import numpy as np
import torch
from photo_generator import draw_photograph
from PIL import Image

from digitnet.inference.reader import DigitReader

SCENES = 50  # different photographs; the files repeat them
SCENE_SEED = 9
SMALL_SIZE = (500, 500)
LARGE_SIZE = (4000, 3000)
JPEG_QUALITY = 90


def save_photograph(scene: Image.Image, size: tuple[int, int], path: Path) -> Path:
    """Scale a photograph to a size, write it as a JPEG file and return the path."""
    scene.resize(size, Image.Resampling.BICUBIC).save(path, quality=JPEG_QUALITY)
    return path


def main() -> None:
    parser = harness.benchmark_parser(__doc__, "image_throughput.json", repeats=5)
    parser.add_argument("--files", type=int, default=1000, help="small photographs to read in parallel")
    arguments = parser.parse_args()
    reader = DigitReader("cnn")
    generators = [np.random.default_rng([SCENE_SEED, number]) for number in range(SCENES)]
    scenes = [Image.open(io.BytesIO(draw_photograph(number % 10, rng))) for number, rng in enumerate(generators)]
    with tempfile.TemporaryDirectory() as folder:
        files = [
            save_photograph(scenes[number % SCENES], SMALL_SIZE, Path(folder) / f"{number}.jpg")
            for number in range(arguments.files)
        ]
        large = save_photograph(scenes[0], LARGE_SIZE, Path(folder) / "large.jpg")
        torch.set_num_threads(1)
        reader.read(files[0])  # the first call is slow
        small_seconds = [
            harness.time_call(partial(reader.read, file)) for _ in range(arguments.repeats) for file in files[:SCENES]
        ]
        large_seconds = [harness.time_call(partial(reader.read, large)) for _ in range(arguments.repeats)]
        start = time.perf_counter()
        list(reader.read_files(files))
        files_per_second = arguments.files / (time.perf_counter() - start)
    small_ms, large_ms = 1000 * statistics.median(small_seconds), 1000 * statistics.median(large_seconds)
    rows = [
        ("one photograph of 500 × 500, one thread, ms", small_ms),
        ("one photograph of 12 megapixels, one thread, ms", large_ms),
        (
            f"{arguments.files} files of 500 × 500, all cores, start of the processes included, per second",
            files_per_second,
        ),
    ]
    harness.print_table("reading photographs, `--model cnn` | median", rows)
    result = {
        "files": arguments.files,
        "small_photo_ms": small_ms,
        "large_photo_ms": large_ms,
        "files_per_second": files_per_second,
    }
    harness.write_result(arguments.output, result)


if __name__ == "__main__":
    main()
