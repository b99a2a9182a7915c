"""A page to draw on: `python -m digitnet.demo`. It is there for this machine only, and sends nothing anywhere."""

import argparse
import base64
import html
import io
import os
import socket
import tempfile
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from digitnet.cli import argparse_app
from digitnet.errors import UsageError, check_argument

# The parts that need torch or gradio are imported where they are used: `--help` does not wait for them.
if TYPE_CHECKING:
    from digitnet.inference.reader import Reader, Reading

HOST = "127.0.0.1"
LIMIT = 20_000_000  # bytes of a photo
ALONE = {"GRADIO_ANALYTICS_ENABLED": "False", "no_proxy": "*"}  # it asks only itself, and not by way of a proxy
CLOSED: dict[str, Any] = {"share": False, "ssr_mode": False, "mcp_server": False, "enable_monitoring": False}
CLOSED |= {"run_history": False, "footer_links": [], "quiet": True, "prevent_thread_lock": True}

# gr.Sketchpad takes seconds and twenty requests for a stroke, and wants its brush chosen first; so this is our own.
PAGE = """
<div class="pad">
  <canvas width="400" height="300" aria-label="Draw here"></canvas>
  <button>Clear</button><button>Photo</button><input type="file" accept="image/*" aria-label="Photo" hidden>
  <p>Draw digits, or drop a photo of some.</p>
</div>
<div class="answer">${value}</div>
"""
SCRIPT = """
const canvas = element.querySelector('canvas'), chooser = element.querySelector('input');
const [clearing, choosing] = element.querySelectorAll('button');
const pen = canvas.getContext('2d', {alpha: false});
Object.assign(pen, {lineWidth: 15, lineCap: 'round', lineJoin: 'round', fillStyle: '#fff'});
let drawing = false, photo = null, timer = 0, busy = false, next = null;

const tell = line => { props.value = `<p role="alert">${line}</p>`; };
const send = async picture => {  // one at a time, and of those that wait the last
  next = picture;
  if (busy) return;
  busy = true;
  while (next) {
    const asked = next;
    next = null;
    const told = await server.read(asked).catch(() => null);  // or nothing at all, as Gradio has it
    if (told) props.value = told; else tell('No answer; start digitnet.demo again');
  }
  busy = false;
};
const sendPage = () => { timer = clearTimeout(timer); send(canvas.toDataURL()); };
const clear = () => { photo = null; pen.fillRect(0, 0, canvas.width, canvas.height); };
const stroke = event => {
  const at = canvas.getBoundingClientRect(), scale = canvas.width / at.width;
  pen.lineTo((event.clientX - at.left) * scale, (event.clientY - at.top) * scale);
  pen.stroke();
  timer ||= setTimeout(sendPage, 100);
};
const load = file => {
  if (!file) return;
  if (file.size > props.limit) return tell(`The picture is larger than ${props.limit / 1e6} MB; scale it down`);
  clear();
  photo = file;
  const reader = new FileReader();
  reader.onload = () => send(reader.result);
  reader.readAsDataURL(file);
  createImageBitmap(file).then(image => {
    const scale = Math.min(canvas.width / image.width, canvas.height / image.height);
    const [width, height] = [image.width * scale, image.height * scale];
    if (photo == file) pen.drawImage(image, (canvas.width - width) / 2, (canvas.height - height) / 2, width, height);
  }, () => {});  // the answer says what is wrong with it
};
canvas.onpointerdown = event => {
  if (!event.isPrimary || event.button) return;
  if (photo) clear();
  canvas.setPointerCapture(event.pointerId);
  drawing = true;
  pen.beginPath();
  stroke(event);
};
canvas.onpointermove = event => { if (drawing && event.isPrimary) stroke(event); };
canvas.onpointerup = canvas.onpointercancel = event => {
  if (!drawing || !event.isPrimary) return;
  drawing = false;
  sendPage();
};
clearing.onclick = () => { clear(); sendPage(); };
choosing.onclick = () => chooser.click();
chooser.onchange = () => { load(chooser.files[0]); chooser.value = ''; };
document.ondragover = event => event.preventDefault();
document.ondrop = event => { event.preventDefault(); load(event.dataTransfer.files[0]); };
document.onpaste = event => load(event.clipboardData.files[0]);
clear();
"""
STYLE = """
display: flex; flex-wrap: wrap; gap: 2em;
.pad { flex: 1 1 300px; } .answer { flex: 1 1 300px; }
canvas { width: 100%; background: #fff; outline: 1px solid #888; touch-action: none; cursor: crosshair; }
button { padding: .3em 1em; margin: .5em .5em .5em 0; border: 1px solid #888; border-radius: 4px; }
figure { min-height: 88px; margin: 0; }
figure img { display: inline; width: 84px; margin: 2px; image-rendering: pixelated; }
figure img.largest:not(:only-child) { outline: 2px solid #e67700; }
.models { display: flex; flex-wrap: wrap; gap: 2em; } section { flex: 1 1 12em; }
h2 { font-size: 1.4em; margin: .6em 0; overflow-wrap: anywhere; } output { font-weight: bold; }
section div { display: flex; gap: .5em; align-items: center; }
i { flex: 1; } i b { display: block; height: 1em; background: #1971c2; }
span { width: 4em; text-align: right; font-variant-numeric: tabular-nums; }
"""


def main() -> None:
    parser = argparse_app.Parser(
        prog="python -m digitnet.demo", description="A page to draw digits on, for this machine only."
    )
    parser.add_argument("--port", type=int, default=7860, help="of the page; 0 for any free one (default: 7860)")
    parser.add_argument("--run", metavar="DIR_OR_CKPT", help="a model of your own, beside the two that come along")
    argparse_app.run(parser, serve)


def serve(options: argparse.Namespace) -> None:
    """Serves the page until a signal ends it. Raises UsageError before anything is served."""
    port = free_port(options.port)
    os.environ |= ALONE
    try:
        import gradio as gr
    except ImportError as error:
        raise UsageError(f"the page needs gradio ({error}): pip install 'digitnet[demo]'") from error
    import torch

    from digitnet.inference.reader import Reader, Reading

    torch.set_num_threads(1)  # for one digit, a second one only waits for the first
    readers = {name.upper(): Reader(name) for name in ("cnn", "mlp")}
    readers |= {options.run: Reader(options.run)} if options.run else {}
    warm_up(readers)

    def read(picture: str) -> str:
        return answer(readers, picture)

    with gr.Blocks(title="digitnet", analytics_enabled=False) as page:
        gr.HTML(
            draw({name: Reading(()) for name in readers}),
            html_template=PAGE,
            css_template=STYLE,
            js_on_load=SCRIPT,
            apply_default_css=False,
            server_functions=[read],
            limit=LIMIT,
        )
    page.launch(server_name=HOST, server_port=port, max_file_size=LIMIT, **CLOSED)
    print(f"http://{HOST}:{port} is the page to draw on; Ctrl-C ends it", flush=True)
    threading.Event().wait()


def free_port(port: int) -> int:
    """The same, or one that is free if it is 0. Raises UsageError if it cannot be had."""
    check_argument(0 <= port <= 65535, "--port", port, "from 0 to 65535")
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
            return int(probe.getsockname()[1])
    except OSError as error:
        raise UsageError(f"--port={port}: {error.strerror}; --port=0 takes a free one") from error


def warm_up(readers: dict[str, "Reader"]) -> None:
    """Reads a picture that nobody waits for: the first one takes longer."""
    page = np.full((300, 400), 255, np.uint8)
    page[50:250, 190:210] = 0
    for reader in readers.values():
        reader.read(page)


def answer(readers: dict[str, "Reader"], picture: str) -> str:
    """What the page shows for a picture, which comes from the browser as a data URL."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(base64.b64decode(picture.partition(",")[2]))
        file.flush()
        try:
            return draw({name: reader.read(file.name) for name, reader in readers.items()})
        except UsageError as error:
            return f'<p role="alert">{html.escape(str(error).replace(f"{file.name}:", "The picture"))}</p>'


def draw(readings: dict[str, "Reading"]) -> str:
    """The images that the networks saw, and what each has read, with the ten probabilities of the largest digit."""
    first = next(iter(readings.values()))  # the images are the same for all of them
    digits, largest = first.digits, first.digits.index(first.largest) if first.largest else 0
    images = [
        f'<img src="{png(digit.image)}" alt="28 × 28" class="{"largest" * (number == largest)}">'
        for number, digit in enumerate(digits)
    ]
    sections = []
    for name, reading in readings.items():
        text = reading.text + ("" if all(digit.sure for digit in reading.digits) else " not sure") or "no digit"
        shares = reading.digits[largest].probabilities if digits else (0.0,) * 10
        bars = [
            f'<div>{digit}<i><b style="width: {share:.1%}"></b></i><span>{share:.1%}</span></div>'
            for digit, share in enumerate(shares)
        ]
        sections.append(f"<section><h2>{html.escape(name)} <output>{text}</output></h2>{''.join(bars)}</section>")
    return f'<figure>{"".join(images)}</figure><div class="models">{"".join(sections)}</div>'


def png(image: NDArray[np.uint8]) -> str:
    """As a data URL."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


if __name__ == "__main__":
    main()
