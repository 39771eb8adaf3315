/* The upload page: shows the files, their progress and their results. fileupload.js does the sending. */

import {announce} from './announcer.js';
import {createRow, drawRow, fillProgress, percentText, portion} from './rows.js';
import {count, describe, endSentence, limitHint, sizeText, tooLarge} from './words.js';

const AT_ONCE = 3;
const REFRESH = 500;        // milliseconds between two updates of the progress
const SPEED_WINDOW = 6000;  // milliseconds over which the speed is measured
const TITLE = document.title;
const ONE_ONLY = 'This link takes one upload.';

const byId = (id) => document.getElementById(id);
const form = byId('upload-form');
const picker = byId('files');
const settings = {
  url: form.dataset.uploadPath,
  single: form.dataset.anonymous !== 'true',
  identifier: form.dataset.identifier,
  maxSize: form.dataset.maxSize === '' ? Infinity : Number(form.dataset.maxSize),
  maxSizeText: form.dataset.maxSizeText,
};

/* An entry is one row: one upload, of one file or, under a given identifier, of all files that were chosen.
 * Its state is queued, sending, finishing (all sent, no answer yet), done, failed or cancelled. */
const entries = [];
const ACTIVE = new Set(['queued', 'sending', 'finishing']);
const RUNNING = new Set(['sending', 'finishing']);

const inState = (...states) => entries.filter((entry) => states.includes(entry.state));
const sum = (list, value) => list.reduce((total, entry) => total + value(entry), 0);

/* ---- choosing files ---- */

function addFiles(files, folders = []) {
  if (files.length + folders.length === 0) {
    return;
  }
  if (settings.single && inState('queued', 'sending', 'finishing', 'done').length > 0) {
    announce(ONE_ONLY);
    return;
  }
  if (settings.single) {
    [...entries].forEach(removeEntry);
  }
  const groups = settings.single && files.length > 0 ? [files] : files.map((file) => [file]);
  announce(`${count(files.length + folders.length, 'file')} added.`);
  [...groups.map(createEntry), ...folders.map(createFolderEntry)].forEach(drawRow);
  startQueued();
}

function createEntry(files) {
  const size = sum(files, (file) => file.size);
  const name = files.length === 1 ? files[0].name : `${files[0].name} and ${files.length - 1} more`;
  const entry = {files, name, size, state: 'queued', sent: 0, samples: [], error: null, upload: null, results: []};
  if (size > settings.maxSize) {
    fail(entry, tooLarge(size, settings.maxSize, settings.maxSizeText));
  }
  return appendEntry(entry);
}

function createFolderEntry(name) {
  const entry = {files: [], name, size: 0, sent: 0, samples: [], upload: null, results: []};
  fail(entry, {code: 'folder', status: 0});
  return appendEntry(entry);
}

function appendEntry(entry) {
  entry.row = createRow(entry, {cancel, retry, remove: removeEntry});
  entries.push(entry);
  byId('entries').append(entry.row);
  return entry;
}

function removeEntry(entry) {
  const next = entry.row.nextElementSibling ?? entry.row.previousElementSibling ?? picker;
  const hadFocus = entry.row.contains(document.activeElement);
  entry.row.remove();
  entries.splice(entries.indexOf(entry), 1);
  drawOverall();
  if (hadFocus) {
    next.focus();
  }
}

/* ---- sending ---- */

function startQueued() {
  const free = AT_ONCE - inState(...RUNNING).length;
  inState('queued').slice(0, Math.max(0, free)).forEach(start);
  drawOverall();
  keepTicking();
}

async function start(entry) {
  Object.assign(entry, {state: 'sending', sent: 0, samples: [[performance.now(), 0]], error: null});
  drawRow(entry);
  const result = entry.upload ? entry.upload.retry() : createUpload(entry).result;
  try {
    const descriptor = await result;
    finish(entry, descriptor);
  } catch (error) {
    if (entry.state === 'cancelled' || error.code === 'cancelled') {
      return;
    }
    fail(entry, error);
  }
  drawRow(entry);
  startQueued();
  announceEnd();
}

function createUpload(entry) {
  entry.upload = window.fileupload.upload(entry.files, {
    url: settings.url,
    identifier: settings.single ? settings.identifier : null,
    onprogress(sent, total) {
      entry.sent = total > 0 ? (sent / total) * entry.size : 0;
    },
    onsent() {
      entry.sent = entry.size;
      entry.state = 'finishing';
      drawRow(entry);
    },
  });
  return entry.upload;
}

function finish(entry, descriptor) {
  entry.state = 'done';
  entry.sent = entry.size;
  entry.results = descriptor.files ?? [];
  announce(`${entry.name} is uploaded.`);
}

function fail(entry, error) {
  entry.state = 'failed';
  entry.error = describe(error, settings.single);
  announce(`${entry.name} failed. ${entry.error.sentence}`);
}

function cancel(entry) {
  const wasQueued = entry.state === 'queued';
  entry.state = 'cancelled';
  if (!wasQueued) {
    entry.upload.cancel();
  }
  drawRow(entry);
  announce(`${entry.name} is cancelled.`);
  startQueued();
}

function retry(entry) {
  entry.state = 'queued';
  drawRow(entry);
  startQueued();
}

/* ---- all uploads together ---- */

function totals() {
  const counted = inState('queued', 'sending', 'finishing', 'done');
  return {sent: sum(counted, (entry) => entry.sent), size: sum(counted, (entry) => entry.size)};
}

function summaryText() {
  const {sent, size} = totals();
  const kept = entries.length - inState('cancelled').length;
  const failed = inState('failed').length;
  const texts = [
    `${inState('done').length} of ${kept} done`,
    size > 0 ? `${sizeText(Math.floor(sent))} of ${sizeText(size)}` : '',
    failed > 0 ? `${failed} failed` : '',
  ];
  return texts.filter(Boolean).join(', ');
}

function drawOverall() {
  const {sent, size} = totals();
  const active = inState(...ACTIVE).length > 0;
  byId('uploads').hidden = entries.length === 0;
  byId('summary').textContent = summaryText();
  byId('overall').hidden = !active || entries.length < 2;
  byId('overall').value = portion(sent, size);
  closePicker(settings.single && inState(...ACTIVE, 'done').length > 0);
  document.title = active ? `${percentText(sent, size)} · ${TITLE}` : TITLE;
}

function closePicker(closed) {
  if (closed && document.activeElement === picker) {
    entries.at(-1).row.focus();
  }
  picker.disabled = closed;
  byId('hint').textContent = closed ? ONE_ONLY : limitHint(settings.single, settings.maxSizeText);
}

function announceEnd() {
  if (entries.length > 1 && inState(...ACTIVE).length === 0) {
    announce(`All uploads have ended: ${endSentence(summaryText())}`);
  }
}

let ticker = null;

function keepTicking() {
  const active = inState(...ACTIVE).length > 0;
  if (active) {
    ticker ??= setInterval(tick, REFRESH);
  } else {
    clearInterval(ticker);
    ticker = null;
  }
}

function tick() {
  const now = performance.now();
  for (const entry of inState('sending')) {
    entry.samples.push([now, entry.sent]);
    while (entry.samples.length > 2 && now - entry.samples[0][0] > SPEED_WINDOW) {
      entry.samples.shift();
    }
    fillProgress(entry);
  }
  drawOverall();
  keepTicking();
}

/* ---- the page's events ---- */

function droppedFolders(transfer) {
  return [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter((item) => item?.isDirectory);
}

const carriesFiles = (event) => event.dataTransfer?.types.includes('Files');

function listen() {
  picker.addEventListener('change', () => {
    addFiles([...picker.files]);
    picker.value = '';
  });
  form.addEventListener('submit', (event) => event.preventDefault());
  document.addEventListener('dragover', (event) => {
    if (carriesFiles(event)) {
      event.preventDefault();
      document.body.classList.add('dropping');
    }
  });
  document.addEventListener('dragleave', (event) => {
    if (event.relatedTarget === null) {  // out of the window, not from one element to the next
      document.body.classList.remove('dropping');
    }
  });
  document.addEventListener('drop', (event) => {
    if (carriesFiles(event)) {
      event.preventDefault();
      document.body.classList.remove('dropping');
      const folders = droppedFolders(event.dataTransfer).map((folder) => folder.name);
      addFiles([...event.dataTransfer.files].filter((file) => !folders.includes(file.name)), folders);
    }
  });
  window.addEventListener('beforeunload', (event) => {
    if (inState(...ACTIVE).length > 0) {
      event.preventDefault();
    }
  });
}

if (!form.hidden) {
  document.documentElement.classList.add('scripted');
  closePicker(false);
  listen();
}
