"""Measure what bfloat16 saves on the CPU: an epoch with `trainer.precision=bf16-mixed` ÷ the same in float32.

    python benchmarks/precision.py        writes benchmarks/results/precision.json

It is meant for a processor that computes in bfloat16 (AVX512-BF16 or AMX on x86).
"""

from functools import partial

import harness

PRESETS = ("model=cnn", "model=resnet", "experiment=cnn_teacher_unpadded", "model=mlp", "experiment=fast")


def main() -> None:
    parser = harness.benchmark_parser(__doc__, "precision.json", repeats=2)
    harness.add_train_size(parser, 12_000)
    arguments = parser.parse_args()
    size = f"++data.train_size={arguments.train_size}"
    cases = {
        f"{preset},{precision}": partial(
            harness.time_trainer_epoch, preset, size, "++data.val_size=0", f"++trainer.precision={precision}", epochs=2
        )
        for preset in PRESETS
        for precision in ("32-true", "bf16-mixed")
    }
    seconds = harness.time_interleaved(cases, arguments.repeats)
    ratios = {preset: harness.median_ratio(seconds, f"{preset},bf16-mixed", f"{preset},32-true") for preset in PRESETS}
    harness.print_table("bf16-mixed ÷ float32 | ratio", list(ratios.items()))
    harness.write_result(arguments.output, {"bf16_mixed_vs_float32": ratios, "seconds": seconds})


if __name__ == "__main__":
    main()
