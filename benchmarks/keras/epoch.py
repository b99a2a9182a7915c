"""Times one epoch of a published recipe in Keras; needs the requirements beside this file, and nothing of digitnet.

    python benchmarks/keras/epoch.py cnn|mlp|cnn_dropout FOLDER      FOLDER holds the four IDX files of MNIST

Prints the seconds of the second epoch; the first compiles.
"""

import sys
import time
from pathlib import Path

import keras
import numpy as np
from keras import layers

RECIPES = {  # Adam, batch 128; see configs/experiment/baseline_*.yaml for what is published and what is not
    "cnn": [
        layers.Conv2D(32, 3, activation="relu"),
        layers.MaxPooling2D(),
        layers.Conv2D(64, 3, activation="relu"),
        layers.MaxPooling2D(),
        layers.Flatten(),
        layers.Dense(128, activation="relu"),
    ],
    "mlp": [layers.Flatten(), layers.Dense(128, activation="relu"), layers.Dense(64, activation="relu")],
}
RECIPES["cnn_dropout"] = [*RECIPES["cnn"], layers.Dropout(0.5)]


class Clock(keras.callbacks.Callback):
    """When each epoch ended."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[float] = []

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:
        self.ends.append(time.perf_counter())


def main() -> None:
    recipe, folder = sys.argv[1], Path(sys.argv[2])
    images = np.frombuffer((folder / "train-images-idx3-ubyte").read_bytes()[16:], np.uint8).reshape(-1, 28, 28, 1)
    labels = np.frombuffer((folder / "train-labels-idx1-ubyte").read_bytes()[8:], np.uint8)
    limit = int(sys.argv[3]) if len(sys.argv) > 3 else len(labels)
    model = keras.Sequential([keras.Input((28, 28, 1)), *RECIPES[recipe], layers.Dense(10, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    clock = Clock()
    model.fit(images[:limit] / np.float32(255), labels[:limit], batch_size=128, epochs=2, verbose=0, callbacks=[clock])
    print(clock.ends[1] - clock.ends[0])


if __name__ == "__main__":
    main()
