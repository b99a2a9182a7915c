"""Export a trained model for other programs: `python -m digitnet.export --model REF -o FILE.onnx`."""

from argparse import Namespace
from importlib import import_module
from pathlib import Path

from digitnet.cli import argparse_app
from digitnet.errors import UsageError

# Modules that need torch are imported where they are used, so that `--help` does not wait for them.

FORMATS = ("onnx", "safetensors")


def main() -> None:
    """Run the command line of `digitnet-export`."""
    argparse_app.run_command(build_parser(), command)


def build_parser() -> argparse_app.CliParser:
    """Return the parser of the command line."""
    parser = argparse_app.CliParser(
        prog="digitnet-export",
        examples={
            "--model RUN_DIR -o digits.onnx": "a run, for ONNX Runtime",
            "--model latest -o digits.safetensors": "the run started last",
            "--model cnn -o cnn.onnx": "the bundled CNN",
        },
        description="Export a trained model as one file with a card beside it.",
        details="They are FILE.onnx and FILE.onnx.json, or FILE.safetensors and FILE.json. Before the file is written, "
        "it is run on the test images of the data that the model was trained on and must predict the same classes as "
        "PyTorch, with probabilities within 1e-5. Existing files are not overwritten.",
    )
    parser.add_argument(
        "--model",
        metavar="REF",
        type=argparse_app.model_reference,
        required=True,
        help="cnn or mlp (bundled), a run folder (its best checkpoint), a checkpoint, an exported .safetensors file, "
        "or latest for the run started last",
    )
    parser.add_argument("--format", choices=FORMATS, help="file format (default: from the suffix of FILE)")
    argparse_app.add_data_root_option(parser)
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="FILE", help="file to write")
    argparse_app.add_import_option(parser)
    return parser


def command(options: Namespace) -> None:
    """Check the output path, then export the model and print a summary."""
    path = options.output
    validate_output(path, options.format or path.suffix[1:])

    from digitnet.checkpoints import pretrained
    from digitnet.environment import environment_info
    from digitnet.inference.model_export import export_model

    print(export_model(pretrained.load(options.model), path, environment_info(), options.data_root))


def validate_output(path: Path, file_format: str) -> None:
    """Raise UsageError if the file cannot be made or written.

    Args:
        path: The file to write.
        file_format: The format, which must agree with the suffix of the path.

    Raises:
        UsageError: If the format is unknown, a package for it is missing, or a file exists or cannot be written.
    """
    if file_format not in FORMATS or path.suffix != f".{file_format}":
        suffixes = [file_format] if file_format in FORMATS else FORMATS
        raise UsageError(f"--output={path}: must end in {' or '.join(f'.{suffix}' for suffix in suffixes)}")
    try:
        for package in ("onnx", "onnxscript", "onnxruntime") if file_format == "onnx" else ():
            import_module(package)
    except ImportError as error:
        raise UsageError(f"the ONNX format needs another package ({error}): pip install 'digitnet[export]'") from error

    from digitnet.checkpoints.atomic import check_writable
    from digitnet.checkpoints.pretrained import card_path

    for file in (path, card_path(path)):
        if file.exists():
            raise UsageError(f"--output={path}: {file} exists; move it away, or choose another name")
    check_writable(path.parent, "--output")


if __name__ == "__main__":
    main()
