"""10,000 test images through Trainer.test and its figures, against one plain forward pass over the same tensor.

python benchmarks/evaluation.py              writes benchmarks/results/evaluation.json
"""

import time
from functools import partial

import measure
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from digitnet import MNISTDataModule
from digitnet.models import DigitClassifier
from digitnet.training import experiment


def by_trainer(model: DigitClassifier, data: MNISTDataModule) -> float:
    config = OmegaConf.create(
        {"_target_": "lightning.Trainer", "logger": False, "enable_checkpointing": False, "accelerator": "cpu"}
    )
    trainer = experiment.make_trainer(config, [])
    return float(experiment.test_figures(trainer, model, data)["test/seconds"])


def by_hand(model: DigitClassifier, data: MNISTDataModule, size: int) -> float:
    images, _ = data.part("test")
    start = time.perf_counter()
    with torch.inference_mode():
        torch.cat([model(part) for part in images.split(size)])
    return time.perf_counter() - start


def main() -> None:
    chosen = measure.arguments(__doc__, "evaluation.json", repeats=15).parse_args()
    import hydra

    with hydra.initialize_config_module("digitnet.configs", version_base="1.3"):
        model = instantiate(hydra.compose("train", ["model=cnn", "folder=unused"]).model).eval()
    data = MNISTDataModule()
    cases = {
        "Trainer.test": partial(by_trainer, model, data),
        "one pass": partial(by_hand, model, data, 10_000),
        "one pass in batches of 1,000": partial(by_hand, model, data, 1000),
    }
    measure.interleave(cases, 2)  # the first ones are slow
    seconds = measure.interleave(cases, chosen.repeats)
    rows = [(f"Trainer.test ÷ {name}", measure.ratio(seconds, "Trainer.test", name)) for name in list(cases)[1:]]
    measure.show("10,000 test images, default CNN | ratio", rows)
    measure.write(chosen.output, {"median ratios": dict(rows), "seconds": seconds})


if __name__ == "__main__":
    main()
