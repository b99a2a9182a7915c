"""Measure one epoch of a published recipe in Keras; needs the requirements beside this file, and nothing of digitnet.

    python benchmarks/keras/epoch.py cnn|mlp|cnn_dropout FOLDER [IMAGES]

FOLDER holds the four IDX files of MNIST; IMAGES limits the training images. The script prints the seconds of the second
epoch, because the first one includes the compilation; it writes no file. `against_keras.py` runs it.
"""

import sys
import time
from pathlib import Path

import keras
import numpy as np
from keras import layers

IMAGES_HEADER, LABELS_HEADER = 16, 8  # bytes before the data of an IDX file
BATCH_SIZE = 128

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


class EpochClock(keras.callbacks.Callback):
    """Record the time at the end of each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[float] = []

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:
        self.ends.append(time.perf_counter())


def main() -> None:
    recipe, folder = sys.argv[1], Path(sys.argv[2])
    pixels = (folder / "train-images-idx3-ubyte").read_bytes()[IMAGES_HEADER:]
    images = np.frombuffer(pixels, np.uint8).reshape(-1, 28, 28, 1)
    labels = np.frombuffer((folder / "train-labels-idx1-ubyte").read_bytes()[LABELS_HEADER:], np.uint8)
    limit = int(sys.argv[3]) if len(sys.argv) > 3 else len(labels)
    model = keras.Sequential([keras.Input((28, 28, 1)), *RECIPES[recipe], layers.Dense(10, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    clock = EpochClock()
    scaled = images[:limit] / np.float32(255)
    model.fit(scaled, labels[:limit], batch_size=BATCH_SIZE, epochs=2, verbose=0, callbacks=[clock])
    print(clock.ends[1] - clock.ends[0])


if __name__ == "__main__":
    main()
