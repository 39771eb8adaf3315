/* Texts of the upload page: sizes, times, and error messages with advice. */

const UNITS = ['bytes', 'KB', 'MB', 'GB', 'TB'];  // of 1024, as the server says them

export function sizeText(bytes) {
  if (bytes < 1024) {
    return count(bytes, 'byte');
  }
  const power = Math.min(Math.floor(Math.log2(bytes) / 10), UNITS.length - 1);
  const value = bytes / 1024 ** power;
  return `${value.toFixed(value < 100 ? 1 : 0).replace(/\.0$/, '')} ${UNITS[power]}`;
}

export function timeText(seconds) {
  if (seconds < 60) {
    return `${Math.max(1, Math.ceil(seconds))} s left`;
  }
  const minutes = Math.ceil(seconds / 60);
  return minutes < 60 ? `${minutes} min left` : `${Math.floor(minutes / 60)} h ${minutes % 60} min left`;
}

export function count(number, noun) {
  return `${number} ${noun}${number === 1 ? '' : 's'}`;
}

/* Joins texts so that a line breaks between them, and not within "12 MB". */
export function joinTexts(texts, separator) {
  return texts.map((text) => text.replaceAll(' ', '\u00a0')).join(separator);
}

export function endSentence(text) {
  return /[.!?]$/.test(text) ? text : `${text}.`;
}

/* Messages that replace those of the server for these codes. */
const SENTENCES = {
  'connection': 'The connection to the server was lost.',
  'unreadable': 'This file can no longer be read: it was changed, moved or deleted since it was chosen.',
  'folder': 'This is a folder, and only files can be uploaded.',
  'invalid-identifier': 'The identifier of this upload is not valid, or has expired.',
  'already-done': 'This upload link was used before, and its upload is complete.',
};

const NEW_LINK = 'Go back to the application and open a new upload link.';
const NEW_IDENTIFIER = 'Retry, to send it with a new identifier.';

const ADVICE = {
  'connection': 'Check your connection, then retry.',
  'unreadable': 'Choose it again.',
  'folder': 'Open it, and choose the files inside.',
  'invalid-identifier': NEW_LINK,
  'already-done': NEW_LINK,
  'origin-not-allowed': 'Tell the administrator of this server.',
  'too-large': 'Choose a smaller file.',
  'limit-exceeded': 'Choose fewer files at a time.',
  'type-not-allowed': 'Choose a file of another type.',
  'too-slow': 'Retry over a faster connection.',
  'pool-full': 'If it does not help, tell the administrator of this server.',
  'interrupted': '',
};

/* Advice for answers without an error code, such as those of a proxy. */
const ADVICE_FOR_STATUS = {
  0: ADVICE.connection,
  401: 'Log in again, then retry.',
  403: NEW_LINK,
  413: ADVICE['too-large'],
};

const OTHERWISE = 'Wait a moment, then retry. If it fails again, tell the administrator of this server.';

/* Codes of errors after which a retry with the same file cannot succeed. */
const FINAL = new Set(['too-large', 'limit-exceeded', 'type-not-allowed', 'unreadable', 'folder', 'http-413']);

/* Returns message, advice, and whether a retry is useless; *single*: all uploads of the page share one identifier. */
export function describe(error, single) {
  const said = error.detail || error.title || `The server answered with error ${error.status}`;
  const advice = ADVICE[error.code] ?? ADVICE_FOR_STATUS[error.status] ?? OTHERWISE;
  const needsLink = advice === NEW_LINK;
  return {
    sentence: endSentence(SENTENCES[error.code] ?? said),
    advice: needsLink && !single ? NEW_IDENTIFIER : advice,
    final: FINAL.has(error.code) || (needsLink && single),
  };
}

export function tooLarge(size, limit, limitText) {
  const limitWords = limitText || sizeText(limit);
  return {
    code: 'too-large',
    status: 413,
    detail: `This is ${sizeText(size)}, and at most ${limitWords} can be sent.`,
  };
}

export function limitHint(single, limitText) {
  const limit = limitText ? `At most ${limitText}` : '';
  if (single) {
    return `All chosen files are sent together, as one upload.${limit ? ` ${limit} in all.` : ''}`;
  }
  return limit ? `${limit} for each file.` : '';
}
