// Gradio runs this when the page is loaded. It provides `element` (the root element of the component), `props.value`
// (the HTML of the answer), `props.limit` (bytes of a photo) and `server.read` (a data URL in, HTML out).

const canvas = element.querySelector('canvas'), fileInput = element.querySelector('input');
const [clearButton, photoButton] = element.querySelectorAll('button');
const pen = canvas.getContext('2d', {alpha: false});
Object.assign(pen, {lineWidth: 15, lineCap: 'round', lineJoin: 'round', fillStyle: '#fff'});
let drawing = false, photo = null, timer = 0, busy = false, next = null;

const showError = message => { props.value = `<p role="alert">${message}</p>`; };

// Send one picture at a time; of those that wait, only the last one counts.
const send = async picture => {
  next = picture;
  if (busy) return;
  busy = true;
  while (next) {
    const sent = next;
    next = null;
    const answer = await server.read(sent).catch(() => null);  // Gradio may also return nothing on an error
    if (answer) props.value = answer; else showError('The server does not answer; start digitnet.demo again');
  }
  busy = false;
};
const sendCanvas = () => { timer = clearTimeout(timer); send(canvas.toDataURL()); };
const clear = () => { photo = null; pen.fillRect(0, 0, canvas.width, canvas.height); };

const stroke = event => {
  const bounds = canvas.getBoundingClientRect(), scale = canvas.width / bounds.width;
  pen.lineTo((event.clientX - bounds.left) * scale, (event.clientY - bounds.top) * scale);
  pen.stroke();
  timer ||= setTimeout(sendCanvas, 100);
};

// Send a photo as it is, and show it on the canvas.
const load = file => {
  if (!file) return;
  if (file.size > props.limit) return showError(`The picture is larger than ${props.limit / 1e6} MB; scale it down`);
  clear();
  photo = file;
  const reader = new FileReader();
  reader.onload = () => send(reader.result);
  reader.readAsDataURL(file);
  createImageBitmap(file).then(image => {
    const scale = Math.min(canvas.width / image.width, canvas.height / image.height);
    const [width, height] = [image.width * scale, image.height * scale];
    if (photo == file) pen.drawImage(image, (canvas.width - width) / 2, (canvas.height - height) / 2, width, height);
  }, () => {});  // if it is not a picture, the answer of the server states what is wrong
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
  sendCanvas();
};
clearButton.onclick = () => { clear(); sendCanvas(); };
photoButton.onclick = () => fileInput.click();
fileInput.onchange = () => { load(fileInput.files[0]); fileInput.value = ''; };
document.ondragover = event => event.preventDefault();
document.ondrop = event => { event.preventDefault(); load(event.dataTransfer.files[0]); };
document.onpaste = event => load(event.clipboardData.files[0]);
clear();
