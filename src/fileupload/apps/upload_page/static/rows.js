/* Draws the row of one upload: its progress, its results or its error, and its buttons. */

import {announce} from './announcer.js';
import {count, joinTexts, sizeText, timeText} from './words.js';

const ACTIVE = new Set(['queued', 'sending', 'finishing']);

function cloneTemplate(id) {
  return document.getElementById(id).content.firstElementChild.cloneNode(true);
}

export function createRow(entry, actions) {
  const row = cloneTemplate('entry-template');
  row.querySelector('.entry-name bdi').textContent = entry.name;
  row.querySelector('progress').setAttribute('aria-label', `Progress of ${entry.name}`);
  for (const button of row.querySelectorAll('[data-action]')) {
    button.setAttribute('aria-label', `${button.textContent} ${entry.name}`);
    button.addEventListener('click', () => actions[button.dataset.action](entry));
  }
  return row;
}

/* Draws the parts that change with the state; fillProgress draws those that change with each byte. */
export function drawRow(entry) {
  const {row, state, error, results} = entry;
  const hadFocus = row.contains(document.activeElement);
  row.dataset.state = state;
  drawButtons(entry);
  row.querySelector('progress').hidden = !ACTIVE.has(state);
  row.querySelector('.entry-problem').hidden = state !== 'failed';
  row.querySelector('.entry-error').textContent = error?.sentence ?? '';
  row.querySelector('.entry-advice').textContent = error?.advice ?? '';
  row.querySelector('.results').replaceChildren(...results.map((file) => createResult(entry, file)));
  fillProgress(entry);
  if (hadFocus && !isShown(document.activeElement)) {
    (row.querySelector('.entry-actions button:not([hidden])') ?? row).focus();
  }
}

function drawButtons({row, state, error}) {
  const shown = {
    cancel: ACTIVE.has(state),
    retry: state === 'cancelled' || (state === 'failed' && !error.final),
    remove: state === 'cancelled' || state === 'failed',
  };
  for (const button of row.querySelectorAll('.entry-actions button')) {
    button.hidden = !shown[button.dataset.action];
  }
}

function isShown(element) {
  return element !== document.body && element.getClientRects().length > 0;
}

export function fillProgress(entry) {
  const {row, state, size, sent} = entry;
  const sizeWords = sizeText(size);
  const texts = {
    queued: () => `${sizeWords}, waiting for its turn`,
    sending: () => sendingText(entry),
    finishing: () => `${sizeWords} sent, the server is finishing`,
    done: () => (entry.results.length === 1 ? '' : sizeWords),
    failed: () => (size > 0 ? sizeWords : ''),
    cancelled: () => `${sizeWords}, cancelled`,
  };
  row.querySelector('progress').value = portion(sent, size);
  row.querySelector('.entry-detail').textContent = texts[state]();
}

export function portion(sent, size) {
  return size > 0 ? Math.min(1, sent / size) : 0;
}

export function percentText(sent, size) {
  return `${Math.floor(portion(sent, size) * 100)} %`;
}

function sendingText({size, sent, samples}) {
  const texts = [percentText(sent, size), `${sizeText(Math.floor(sent))} of ${sizeText(size)}`];
  if (samples.length > 1) {
    const [before, sentBefore] = samples[0];
    const speed = (sent - sentBefore) / (performance.now() - before) * 1000;
    texts.push(...(speed > 0 ? [`${sizeText(Math.round(speed))}/s`, timeText((size - sent) / speed)] : ['stalled']));
  }
  return joinTexts(texts, ' · ');
}

function createResult(entry, file) {
  const item = cloneTemplate('result-template');
  const heading = item.querySelector('.result-name');
  heading.hidden = entry.results.length === 1 && file.filename === entry.name;
  heading.firstElementChild.textContent = file.filename;
  const fact = (name) => item.querySelector(`[data-fact="${name}"]`);
  fact('size').textContent = sizeText(file.size);
  fact('size').title = count(file.size, 'byte');
  fact('type').textContent = file['content-type'] || 'unknown';
  fact('sha256').textContent = file.sha256 ?? '';
  item.querySelector('.fact-checksum').hidden = !file.sha256;
  const button = item.querySelector('[data-action="copy"]');
  button.setAttribute('aria-label', `Copy SHA-256 of ${file.filename}`);
  button.addEventListener('click', () => copy(fact('sha256'), button));
  return item;
}

async function copy(node, button) {
  try {
    await navigator.clipboard.writeText(node.textContent);
  } catch {  // no clipboard API outside of secure contexts: select the text and use execCommand
    window.getSelection().selectAllChildren(node);
    document.execCommand('copy');
  }
  button.textContent = 'Copied';
  announce('Copied.');
  setTimeout(() => {
    button.textContent = 'Copy';
  }, 2000);
}
