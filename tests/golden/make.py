"""Keeps a small checkpoint of this version, with what it makes of ten digits; run once before a release.

python tests/golden/make.py RUN_DIR [RUN_DIR ...]
"""

import json
import sys
from pathlib import Path

import torch

import digitnet
from digitnet.data import mnist


def main() -> None:
    images, _ = mnist.load_mnist("test")
    for run in map(Path, sys.argv[1:]):
        model = digitnet.load(run)
        target = Path(__file__).with_name(f"{digitnet.__version__}-{type(model).__name__.lower()}")
        Path(f"{target}.ckpt").write_bytes((run / "checkpoints" / "best.ckpt").read_bytes())
        with torch.inference_mode():
            logits = model(images[:10]).tolist()
        Path(f"{target}.json").write_text(json.dumps(logits) + "\n")


if __name__ == "__main__":
    main()
