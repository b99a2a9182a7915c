"""Read the digits in pictures: `python -m digitnet.predict photo.png more/*.jpg folder/`."""

import sys
from argparse import Namespace
from pathlib import Path

from digitnet.cli import argparse_app
from digitnet.errors import UsageError, check_argument

# Modules that need torch are imported where they are used, so that `--help` does not wait for them.


def main() -> None:
    """Run the command line of `digitnet-predict`."""
    argparse_app.run_command(build_parser(), command)


def build_parser() -> argparse_app.CliParser:
    """Return the parser of the command line."""
    parser = argparse_app.CliParser(
        prog="digitnet-predict",
        description="Read the digits in pictures: photos, scans and drawings.",
        examples={
            "photo.jpg": "the digits in a picture",
            "scans/ --csv": "a folder, as CSV",
            "photo.jpg --contact-sheet seen.png": "what it sees",
        },
    )
    parser.add_argument(
        "paths", nargs="*", type=Path, metavar="FILE_OR_FOLDER", help="a picture, or a folder with pictures"
    )
    parser.add_argument(
        "--model",
        metavar="REF",
        type=argparse_app.model_reference,
        default="bundled:cnn",
        help="cnn or mlp (bundled), a run folder, a checkpoint, an exported .safetensors file, or latest for the run "
        "started last (default: cnn)",
    )
    output_format = parser.add_mutually_exclusive_group()
    output_format.add_argument("--json", action="store_true", help="print a JSON list with an object for each file")
    output_format.add_argument("--csv", action="store_true", help="print CSV with a line for each file")
    parser.add_argument(
        "--contact-sheet",
        type=Path,
        metavar="OUT.png",
        help="draw the pictures, the inputs and the probabilities",
    )
    parser.add_argument(
        "--test-samples",
        type=int,
        metavar="N",
        help="predict N random test images instead of files",
    )
    argparse_app.add_data_root_option(parser)
    argparse_app.add_import_option(parser)
    return parser


def command(options: Namespace) -> None:
    """Check the options, then predict files or test images."""
    if options.contact_sheet:
        validate_contact_sheet(options.contact_sheet)
    if options.test_samples is not None:
        only_option = not (options.paths or options.json or options.csv)
        requirement = "1 or more, without files, --json and --csv"
        check_argument(options.test_samples > 0 and only_option, "--test-samples", options.test_samples, requirement)
        predict_test_samples(options.model, options.test_samples, options.data_root, options.contact_sheet)
    elif options.data_root:
        raise UsageError(f"--data-root={options.data_root}: only together with --test-samples")
    elif options.paths:
        predict_files(options)
    else:
        raise UsageError("no picture given; name files or folders, or see --help")


def validate_contact_sheet(path: Path) -> None:
    """Raise UsageError unless the contact sheet can be written as a new file."""
    from digitnet.checkpoints.atomic import check_writable

    is_png = path.suffix == ".png" and path.parent.is_dir()
    check_argument(is_png, "--contact-sheet", path, "the name of a .png file in an existing folder")
    check_argument(not path.exists(), "--contact-sheet", path, "a new file: this one exists")
    check_writable(path.parent, "--contact-sheet")


def predict_files(options: Namespace) -> None:
    """Print the digits in each file; report the files that are not pictures, and continue with the others.

    The exit status is 2 if no file is a picture, or if a file that was named on the command line is not one.
    """
    from digitnet.inference import output
    from digitnet.inference.files import expand_path, read_with_progress
    from digitnet.inference.reader import DigitReader

    files = [file for path in options.paths for file in expand_path(path)]
    reader = DigitReader(options.model)
    outcomes = read_with_progress(reader, files)
    if len(files) == 1 and isinstance(outcomes[0], UsageError):
        raise outcomes[0]
    if options.csv:
        output.print_csv(files, outcomes, reader.class_names)
    else:
        (output.print_json if options.json else output.print_results)(files, outcomes)
    failed = {file: outcome for file, outcome in zip(files, outcomes, strict=True) if isinstance(outcome, UsageError)}
    for error in failed.values():
        argparse_app.print_error(str(error))
    if options.contact_sheet:
        output.save_contact_sheet(options.contact_sheet, files, outcomes)
    if len(failed) == len(files) or not failed.keys().isdisjoint(options.paths):
        sys.exit(2)


def predict_test_samples(model: str, count: int, data_root: Path | None, contact_sheet: Path | None) -> None:
    """Print the predicted and the actual classes of random test images of the data that the model was trained on."""
    import torch

    from digitnet.checkpoints.recorded_data import open_recorded_data
    from digitnet.inference import output
    from digitnet.inference.reader import DigitReader
    from digitnet.models import MNIST_RECORD

    reader = DigitReader(model)
    record = reader.model.dataset or MNIST_RECORD
    data = open_recorded_data(record, data_root)
    if data is None:
        raise UsageError(
            f"--test-samples: the images that {model} was trained with ({record.name}) are not at a known place; name "
            "their folder with --data-root"
        )
    images, labels = data.split("test")
    indices = torch.randperm(len(images))[:count]
    probabilities = reader.probabilities(images[indices])
    output.print_test_samples(indices, labels[indices], probabilities, reader.class_names)
    if contact_sheet:
        output.save_test_samples(contact_sheet, images[indices], labels[indices], probabilities, reader.class_names)


if __name__ == "__main__":
    main()
