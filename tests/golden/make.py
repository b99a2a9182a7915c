"""Store a checkpoint of this version, with its logits for ten test images, as a reference for later versions.

    python tests/golden/make.py RUN_DIR [RUN_DIR ...]

Run it once before a release, with the folders of small runs. It writes VERSION-MODEL.ckpt and VERSION-MODEL.json into
this folder.
"""

import json
import sys
from pathlib import Path

import torch

import digitnet
from digitnet.data import mnist

IMAGES = 10


def main() -> None:
    images, _ = mnist.load("test")
    for run_dir in map(Path, sys.argv[1:]):
        model = digitnet.load(run_dir)
        target = Path(__file__).with_name(f"{digitnet.__version__}-{type(model).__name__.lower()}")
        Path(f"{target}.ckpt").write_bytes((run_dir / "checkpoints" / "best.ckpt").read_bytes())
        with torch.inference_mode():
            logits = model(images[:IMAGES]).tolist()
        Path(f"{target}.json").write_text(json.dumps(logits) + "\n")


if __name__ == "__main__":
    main()
