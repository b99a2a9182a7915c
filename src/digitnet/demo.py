"""Serve a page to draw digits on: `python -m digitnet.demo`.

The page is for this machine only and sends nothing elsewhere.
"""

from argparse import Namespace

from digitnet.cli import argparse_app


def main() -> None:
    """Run the command line of `digitnet-demo`."""
    argparse_app.run_command(build_parser(), command)


def build_parser() -> argparse_app.CliParser:
    """Return the parser of the command line."""
    parser = argparse_app.CliParser(
        prog="digitnet-demo",
        description="Serve a page to draw digits on, for this machine only.",
        examples={
            "": "with the two bundled models",
            "--model RUN_DIR": "with a model of your own beside them",
            "--port 0": "on any free port",
        },
    )
    parser.add_argument("--port", type=int, default=7860, help="port of the page; 0 for any free port (default: 7860)")
    parser.add_argument(
        "--model",
        metavar="REF",
        type=argparse_app.model_reference,
        help="a model to show beside the two bundled ones: a run folder, a checkpoint, an exported .safetensors file, "
        "or latest for the run that was started last",
    )
    argparse_app.add_import_option(parser)
    return parser


def command(options: Namespace) -> None:
    """Serve the page until a signal ends the process."""
    from digitnet.inference.web import server  # imported here, so that `--help` does not wait for it

    server.serve(options.port, options.model)


if __name__ == "__main__":
    main()
