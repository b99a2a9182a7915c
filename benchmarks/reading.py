"""How long it takes to read pictures: one, a thousand files, a photograph of 12 megapixels.

python benchmarks/reading.py                 writes benchmarks/results/reading.json
"""

import io
import statistics
import tempfile
import time
from pathlib import Path

import measure
import numpy as np
import torch
from photographs import photograph
from PIL import Image

from digitnet.inference.reader import DigitReader as Reader

KINDS = 50


def seconds(reader: Reader, file: Path) -> float:
    start = time.perf_counter()
    reader.read(file)
    return time.perf_counter() - start


def main() -> None:
    parser = measure.arguments(__doc__, "reading.json", repeats=5)
    parser.add_argument("--files", type=int, default=1000)
    chosen = parser.parse_args()
    reader = Reader("cnn")
    with tempfile.TemporaryDirectory() as folder:
        scenes = [Image.open(io.BytesIO(photograph(n % 10, np.random.default_rng([9, n])))) for n in range(KINDS)]
        files = []
        for number in range(chosen.files):
            files.append(Path(folder) / f"{number}.jpg")
            scenes[number % KINDS].resize((500, 500), Image.Resampling.BICUBIC).save(files[-1], quality=90)
        large = Path(folder) / "large.jpg"
        scenes[0].resize((4000, 3000), Image.Resampling.BICUBIC).save(large, quality=90)
        torch.set_num_threads(1)
        seconds(reader, files[0])
        one = statistics.median(seconds(reader, file) for _ in range(chosen.repeats) for file in files[:KINDS])
        twelve = statistics.median(seconds(reader, large) for _ in range(chosen.repeats))
        start = time.perf_counter()
        list(reader.read_files(files))
        rate = chosen.files / (time.perf_counter() - start)
    rows = [
        ("one photograph of 500 × 500, one thread, ms", 1000 * one),
        ("one of 12 megapixels, one thread, ms", 1000 * twelve),
        (f"{chosen.files} files of 500 × 500, by all cores, start of the processes included, a second", rate),
    ]
    measure.show("reading photographs, `--model cnn` | median", rows)
    measure.write(chosen.output, dict(rows))


if __name__ == "__main__":
    main()
