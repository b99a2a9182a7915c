"""Serve the page to this machine."""

import os
import socket
import threading
from typing import TYPE_CHECKING, Any

from digitnet.errors import UsageError, check_argument

# Modules that need torch or gradio are imported where they are used, so that a wrong port is reported at once.
if TYPE_CHECKING:
    from digitnet.inference.reader import DigitReader

HOST = "127.0.0.1"
MAX_PHOTO_BYTES = 20_000_000
OFFLINE_ENV = {"GRADIO_ANALYTICS_ENABLED": "False", "no_proxy": "*"}  # Gradio sends requests to itself: without a proxy
LAUNCH_OPTIONS: dict[str, Any] = {
    "share": False,
    "ssr_mode": False,
    "mcp_server": False,
    "enable_monitoring": False,
    "run_history": False,
    "footer_links": [],
    "quiet": True,
    "prevent_thread_lock": True,
}


def serve(port: int, model: str | None = None) -> None:
    """Serve the page until a signal ends the process.

    Args:
        port: Port of the page; 0 for any free port.
        model: Reference to a model that is shown beside the bundled ones.

    Raises:
        UsageError: If the port is taken, gradio is not installed or there is no such model; nothing is served then.
    """
    port = _find_port(port)
    os.environ |= OFFLINE_ENV
    try:
        import gradio as gr
    except ImportError as error:
        raise UsageError(f"the page needs gradio ({error}): pip install 'digitnet[demo]'") from error
    import torch

    from digitnet.inference.reader import DigitReader, ReadResult
    from digitnet.inference.web.page import predict_html, read_asset, render_examples, render_html

    torch.set_num_threads(1)  # for a single digit, a second thread only waits for the first
    readers = {name.upper(): DigitReader(f"bundled:{name}") for name in ("cnn", "mlp")}
    readers |= {model: DigitReader(model)} if model else {}
    _warm_up(readers)

    def read(picture: str) -> str:
        return predict_html(readers, picture)

    # The page has its own canvas, because gr.Sketchpad takes seconds and twenty requests for a stroke, and its brush
    # must be chosen first.
    with gr.Blocks(title="digitnet", analytics_enabled=False) as page:
        gr.HTML(
            render_html({name: ReadResult((), reader.class_names) for name, reader in readers.items()}),
            html_template=read_asset("page.html"),
            css_template=read_asset("page.css"),
            js_on_load=read_asset("page.js"),
            apply_default_css=False,
            server_functions=[read],
            examples=render_examples(),
            limit=MAX_PHOTO_BYTES,
        )
    page.launch(server_name=HOST, server_port=port, max_file_size=MAX_PHOTO_BYTES, **LAUNCH_OPTIONS)
    print(f"http://{HOST}:{port} serves the page; press Ctrl-C to stop", flush=True)
    threading.Event().wait()


def _find_port(port: int) -> int:
    """Return the port if it is free, or any free port for 0.

    Raises:
        UsageError: If the port is out of range or cannot be used.
    """
    check_argument(0 <= port <= 65535, "--port", port, "from 0 to 65535")
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
            return int(probe.getsockname()[1])
    except OSError as error:
        raise UsageError(f"--port={port}: {error.strerror}; --port=0 takes a free one") from error


def _warm_up(readers: dict[str, "DigitReader"]) -> None:
    """Read a picture with each model before the page is served: the first call takes longer."""
    import numpy as np

    picture = np.full((300, 400), 255, np.uint8)
    picture[50:250, 190:210] = 0
    for reader in readers.values():
        reader.read(picture)
