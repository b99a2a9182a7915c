// Gradio runs this when the page is loaded. It provides `element` (the root element of the component), `props.limit`
// (bytes of a photo) and `server.read` (a data URL in, HTML out).

const find = selector => element.querySelector(selector);
const canvas = find('canvas'), fileInput = find('input'), answer = find('.answer'), paper = find('.paper').classList;
const pen = canvas.getContext('2d', {alpha: false, willReadFrequently: true});
Object.assign(pen, {lineWidth: 15, lineCap: 'round', lineJoin: 'round', fillStyle: '#fff'});
let drawing = false, photo = null, timer = 0, busy = false, next = null, history = [];

const showError = message => { answer.innerHTML = `<p role="alert">${message}</p>`; };

// Show an answer. The bars stay in place and get new values, so that they move.
const show = html => {
  const fresh = document.createElement('div');
  fresh.innerHTML = html;
  const parts = root => [...root.querySelectorAll('figure, h2, .hint, .bars div')];
  const [before, after] = [parts(answer), parts(fresh)];
  if (before.length != after.length || !after.length) answer.innerHTML = html;
  else before.forEach((part, index) => {
    const bar = part.querySelector('b');
    if (!bar) return part.replaceWith(after[index]);
    part.setAttribute('style', after[index].getAttribute('style'));
    part.querySelector('span').textContent = after[index].querySelector('span').textContent;
  });
  const spoken = [...answer.querySelectorAll('section')].map(part => `${part.querySelector('h2').textContent}.`).join(' ');
  if (find('.spoken').textContent != spoken) find('.spoken').textContent = spoken;  // not the bars: they are many
};

// Send one picture at a time; of those that wait, only the last one counts.
const send = async picture => {
  next = picture;
  if (busy) return;
  busy = true;
  while (next) {
    const sent = next;
    next = null;
    const html = await server.read(sent).catch(() => null);  // Gradio may also return nothing on an error
    if (html) show(html); else showError('The server does not answer; start digitnet.demo again');
  }
  busy = false;
};
const sendCanvas = () => { timer = clearTimeout(timer); send(canvas.toDataURL()); };
const clear = () => { photo = null; pen.fillRect(0, 0, canvas.width, canvas.height); paper.add('blank'); };
const remember = () => {
  const image = pen.getImageData(0, 0, canvas.width, canvas.height);
  history = [...history.slice(-30), {image, blank: paper.contains('blank')}];
};

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
  paper.remove('blank');
  history = [];
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
  remember();
  paper.remove('blank');
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
const undo = () => {
  if (!history.length) return;
  const {image, blank} = history.pop();
  pen.putImageData(image, 0, 0);
  paper.toggle('blank', blank);
  sendCanvas();
};
find('.undo').onclick = undo;
find('.clear').onclick = () => { if (!photo) remember(); clear(); sendCanvas(); };
find('.photo').onclick = () => fileInput.click();
fileInput.onchange = () => { load(fileInput.files[0]); fileInput.value = ''; };
for (const button of element.querySelectorAll('.examples button'))
  button.onclick = async () => load(await (await fetch(button.querySelector('img').src)).blob());
document.onkeydown = event => { if (event.key == 'z' && (event.ctrlKey || event.metaKey)) undo(); };
document.ondragover = event => event.preventDefault();
document.ondrop = event => { event.preventDefault(); load(event.dataTransfer.files[0]); };
document.onpaste = event => load(event.clipboardData.files[0]);
clear();
