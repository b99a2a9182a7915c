"""Measure what TensorBoard costs: the fraction of an epoch that is spent in each callback that logs to it.

    python benchmarks/tensorboard_cost.py        writes benchmarks/results/tensorboard_cost.json

Every call is timed in one run of each network, with `tensorboard.histograms=true`.
"""

import harness
from guard_overhead import DEFAULT_TRAIN_SIZE, record_calls

from digitnet.training.callbacks import Histograms, TensorBoardReport

CALLS = {
    "learning_rate": (TensorBoardReport, "on_train_batch_end"),
    "accuracy_by_class": (TensorBoardReport, "on_validation_epoch_end"),
    "histograms": (Histograms, "on_train_batch_end"),
}


def main() -> None:
    parser = harness.benchmark_parser(__doc__, "tensorboard_cost.json", repeats=3)
    harness.add_train_size(parser, DEFAULT_TRAIN_SIZE)
    arguments = parser.parse_args()
    calls = {name: record_calls(*function) for name, function in CALLS.items()}
    epochs = arguments.repeats + 1  # the time per epoch leaves the first epoch out
    result, rows = {}, []
    for model in ("cnn", "mlp"):
        for seconds in calls.values():
            seconds.clear()
        overrides = (f"model={model}", f"++data.train_size={arguments.train_size}", "tensorboard.histograms=true")
        epoch = harness.time_trainer_epoch(*overrides, epochs=epochs)
        fractions = {name: sum(seconds) / epochs / epoch for name, seconds in calls.items()}
        result[model] = {"fraction_of_epoch": fractions, "seconds_per_epoch": epoch}
        rows += [(f"{name}, model={model}", 100 * fraction) for name, fraction in fractions.items()]
    harness.print_table("of an epoch | %", rows)
    harness.write_result(arguments.output, result)


if __name__ == "__main__":
    main()
