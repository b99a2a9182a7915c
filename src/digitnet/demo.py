"""Serve a page to draw digits on: `python -m digitnet.demo`.

The page is for this machine only and sends nothing elsewhere.
"""

from argparse import Namespace

from digitnet.cli import argparse_app


def main() -> None:
    """Run the command line of `digitnet-demo`."""
    parser = argparse_app.CliParser(
        prog="digitnet-demo", description="Serve a page to draw digits on, for this machine only."
    )
    parser.add_argument("--port", type=int, default=7860, help="port of the page; 0 for any free port (default: 7860)")
    parser.add_argument(
        "--model",
        metavar="REF",
        help="a model to show beside the two bundled ones: a run folder, a checkpoint or an exported .safetensors file",
    )
    argparse_app.add_import_option(parser)
    argparse_app.run_command(parser, command)


def command(options: Namespace) -> None:
    """Serve the page until a signal ends the process."""
    from digitnet.inference.web import server  # imported here, so that `--help` does not wait for it

    server.serve(options.port, options.model)


if __name__ == "__main__":
    main()
