/* Sends files to an upload address, with progress, cancel and retry. The middleware serves it below each upload path,
 * at /upload/fileupload.js. It needs no other script, and any page can use it.
 *
 * A form with the attribute data-fileupload is sent by this script, and without the script as usual:
 *
 *   <form data-fileupload action="/upload?X-Progress-ID=..." method="post" enctype="multipart/form-data">
 *     <input type="file" name="file"> <button>Send</button> <button type="reset">Cancel</button>
 *     <progress aria-label="Progress" hidden></progress> <output></output>
 *   </form>
 *
 * <progress> shows the progress, <output> the messages; both may be left out. At the end the browser goes to where the
 * answer redirects. With data-fileupload-finish="/uploaded", the identifier and the text fields are first posted to that
 * address of the app: for a dedicated server, which receives the files in place of the app.
 *
 * In a script:
 *
 *   const upload = fileupload.upload(files, {url: '/upload', onprogress: (sent, total) => { ... }});
 *   upload.result.then((descriptor) => { ... }, (error) => { error.code, error.detail ... });
 *   upload.cancel();                    // stops sending, and removes what the server has
 *   upload.retry();                     // after an error, under the same identifier; gives the new result
 *
 * The first argument is a file, a list of files, or a FormData. The result is the answer's JSON, or else its text;
 * upload.answer has its status, url (after redirects), type and text, and is null if the answer was lost.
 *
 * Options: url (ends in /upload; may have a query with an X-Progress-ID), identifier (asked of the server when absent),
 * field (name of the file field), fields (an object of text fields), onprogress(sent, total), onsent().
 */
(() => {
  'use strict';

  /* Milliseconds before each status request after a lost connection. A server that has all bytes may still be
   * finishing the upload, so the page polls longer. */
  const PAUSES_AFTER_ALL_SENT = [0, 500, 1000, 2000, 4000, 8000, 15000];
  const PAUSES_AFTER_SOME_SENT = [300, 1000];
  const QUESTION_TIMEOUT = 20000;

  /* Codes of truncated bodies, which the page reports as a lost connection. */
  const BROKEN_OFF = new Set(['incomplete']);

  class UploadError extends Error {
    constructor(code, {status = 0, title = '', detail = ''} = {}) {
      super(detail || title || code);
      Object.assign(this, {name: 'UploadError', code, status, title, detail});
    }
  }

  function parseObject(text) {
    try {
      const value = JSON.parse(text);
      return value !== null && typeof value === 'object' ? value : null;
    } catch {
      return null;
    }
  }

  function errorFrom(status, text) {
    const problem = parseObject(text) ?? {};
    return new UploadError(problem.code ?? `http-${status}`, {...problem, status});
  }

  function pause(milliseconds, signal) {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(resolve, milliseconds);
      const stop = () => {
        clearTimeout(timer);
        reject(new UploadError('cancelled'));
      };
      if (signal.aborted) {
        stop();
      }
      signal.addEventListener('abort', stop, {once: true});
    });
  }

  /* XMLHttpRequest, because fetch has no upload progress. */
  function post(url, body, {signal, onprogress, onsent}) {
    return new Promise((resolve, reject) => {
      const request = new XMLHttpRequest();
      request.open('POST', url);
      request.setRequestHeader('Accept', 'application/json');
      request.upload.onprogress = (event) => onprogress(event.loaded, event.total);
      request.upload.onload = onsent;
      request.onload = () => resolve({
        status: request.status,
        url: request.responseURL,
        redirected: request.responseURL !== url,
        type: request.getResponseHeader('Content-Type') ?? '',
        text: request.responseText,
      });
      request.onerror = () => reject(new UploadError('connection'));
      request.onabort = () => reject(new UploadError('cancelled'));
      signal.addEventListener('abort', () => request.abort(), {once: true});
      request.send(body);
    });
  }

  async function ask(url, {method = 'GET', signal} = {}) {
    const limit = AbortSignal.timeout(QUESTION_TIMEOUT);
    const signals = signal ? [signal, limit] : [limit];
    const response = await fetch(url, {
      method, headers: {Accept: 'application/json'}, cache: 'no-store', signal: AbortSignal.any(signals),
    });
    return {status: response.status, text: await response.text()};
  }

  /* A file that was changed or removed since it was chosen fails like a lost connection. */
  async function isReadable(file) {
    try {
      await file.slice(0, 1).arrayBuffer();
      return true;
    } catch {
      return false;
    }
  }

  class Upload {
    #files;
    #form;
    #options;
    #own;
    #unused;
    #controller = null;
    #cancelled = Promise.resolve();

    constructor(files, form, options) {
      this.#files = files;
      this.#form = form;
      this.#options = {url: 'upload', field: 'file', fields: {}, onprogress() {}, onsent() {}, ...options};
      const address = new URL(this.#options.url, document.baseURI);
      this.identifier = options.identifier || address.searchParams.get('X-Progress-ID') || null;
      this.answer = null;
      this.#own = !this.identifier;
      this.#unused = this.#own;
      this.retry();
    }

    retry() {
      this.#controller?.abort();
      this.#controller = new AbortController();
      this.answer = null;
      this.result = this.#attempt(this.#controller.signal);
      this.result.catch(() => {});  // callers that await the result still get the error
      return this.result;
    }

    cancel() {
      this.#controller.abort();
      if (this.identifier) {
        this.#cancelled = ask(this.#address('/status'), {method: 'DELETE'}).catch(() => {});
      }
      return this.#cancelled;
    }

    async #attempt(signal) {
      let allSent = false;
      const onsent = () => {
        allSent = true;
        this.#options.onsent();
      };
      try {
        await this.#cancelled;  // a late DELETE would remove the new attempt
        await this.#claim(signal);
        signal.throwIfAborted();
        const {onprogress} = this.#options;
        const answer = await post(this.#address(''), this.#body(), {signal, onprogress, onsent});
        return await this.#conclude(answer, signal);
      } catch (error) {
        if (signal.aborted) {
          throw new UploadError('cancelled');
        }
        if (error.code !== 'connection' || !this.identifier) {
          throw error;
        }
        return this.#afterBreak(error, allSent, signal);
      }
    }

    /* Makes sure that the identifier is unused, so that an upload found complete later is this one. */
    async #claim(signal) {
      this.identifier ??= await this.#askIdentifier(signal);
      if (this.#unused) {
        return;
      }
      const status = await this.#askStatus(signal);
      if (status?.state === 'done') {
        throw new UploadError('already-done', {status: 409, title: 'The upload is already complete'});
      }
      this.#unused = status !== null;
    }

    async #askIdentifier(signal) {
      const answer = await ask(this.#address('/identifier'), {method: 'POST', signal}).catch(() => {
        throw new UploadError('connection');
      });
      const identifier = parseObject(answer.text)?.identifier;
      if (answer.status >= 300 || !identifier) {
        throw errorFrom(answer.status, answer.text);
      }
      return identifier;
    }

    async #askStatus(signal) {
      const answer = await ask(this.#address('/status'), {signal}).catch(() => null);
      return answer && parseObject(answer.text);
    }

    async #conclude(answer, signal) {
      const {status, text} = answer;
      if (status >= 200 && status < 300) {
        this.answer = answer;
        return parseObject(text) ?? text;
      }
      const error = errorFrom(status, text);
      if (error.code === 'already-done' && this.#unused) {
        // Browsers repeat a request whose connection breaks before the answer.
        const found = await this.#askStatus(signal);
        if (found?.state === 'done') {
          return found;
        }
      }
      if (this.#own && status === 403) {
        this.identifier = null;  // expired: the next attempt needs a new one
      }
      throw error;
    }

    /* Finds out from the status how an upload ended whose answer was lost. */
    async #afterBreak(error, allSent, signal) {
      for (const milliseconds of allSent ? PAUSES_AFTER_ALL_SENT : PAUSES_AFTER_SOME_SENT) {
        await pause(milliseconds, signal);
        const status = await this.#askStatus(signal);
        if (status?.state === 'done') {
          return status;
        }
        if (status?.state === 'error' && !BROKEN_OFF.has(status.code)) {
          throw new UploadError(status.code, {detail: status.error});
        }
        if (status?.state === 'error' || status?.state === 'unknown') {
          break;
        }
      }
      if (signal.aborted) {
        throw new UploadError('cancelled');
      }
      const readable = await Promise.all(this.#files.map(isReadable));
      throw readable.every(Boolean) ? error : new UploadError('unreadable');
    }

    #body() {
      if (this.#form !== null) {
        return this.#form;
      }
      const form = new FormData();
      for (const [name, value] of Object.entries(this.#options.fields)) {
        form.append(name, value);
      }
      for (const file of this.#files) {
        form.append(this.#options.field, file, file.name);
      }
      return form;
    }

    #address(suffix) {
      const address = new URL(this.#options.url, document.baseURI);
      address.pathname += suffix;
      if (suffix !== '/identifier') {
        address.searchParams.set('X-Progress-ID', this.identifier);
      }
      return address.href;
    }
  }

  function upload(files, options = {}) {
    if (files instanceof FormData) {
      return new Upload([...files.values()].filter((value) => value instanceof File), files, options);
    }
    return new Upload(files instanceof Blob ? [files] : [...files], null, options);
  }

  /* ---- forms ---- */

  const SENTENCES = {
    cancelled: 'The upload is cancelled.',
    connection: 'The connection was lost. Please send the form again.',
    unreadable: 'The file can no longer be read. Please choose it again.',
  };

  function sentence(error) {
    return SENTENCES[error.code] ?? (error.detail || error.title || `The server answers ${error.status}.`);
  }

  const running = new Map();  // the form, with its upload and the promise of its removal

  /* Screen readers announce each message, so it changes at each tenth only. */
  function showProgress(form, name) {
    const bar = form.querySelector('progress') ?? document.createElement('progress');
    const output = form.querySelector('output') ?? document.createElement('output');
    const show = (text) => {
      if (output.value !== text) {
        output.value = text;
      }
    };
    bar.hidden = false;
    bar.removeAttribute('value');
    show('Sending…');
    return {
      onprogress(sent, total) {
        bar.max = total;
        bar.value = sent;
        show(`${10 * Math.floor(10 * sent / total)} % of ${name}`);
      },
      onsent() {
        bar.removeAttribute('value');
        show('Waiting for the answer…');
      },
      end(text) {
        bar.hidden = true;
        show(text);
      },
    };
  }

  async function sendForm(form, submitter) {
    const body = new FormData(form, submitter);
    const url = new URL(form.getAttribute('action') ?? '', document.baseURI).href;
    const names = [...body.values()].filter((value) => value instanceof File).map((file) => file.name);
    const progress = showProgress(form, names.length === 1 ? names[0] : `${names.length} files`);
    const {onprogress, onsent} = progress;
    const sending = {upload: upload(body, {url, onprogress, onsent}), cancelled: null};
    running.set(form, sending);
    try {
      await sending.upload.result;
      const finish = form.dataset.fileuploadFinish;
      const {identifier, answer} = sending.upload;
      goOn(finish ? await tellApp(finish, body, identifier) : answer, progress);
    } catch (error) {
      await sending.cancelled;  // a late DELETE would remove the next attempt
      progress.end(sentence(error));
    } finally {
      running.delete(form);
    }
  }

  /* Tells the app that a dedicated server has its upload. */
  async function tellApp(address, body, identifier) {
    const fields = new URLSearchParams([...body].filter(([, value]) => typeof value === 'string'));
    fields.set('identifier', identifier);
    const response = await fetch(address, {method: 'POST', body: fields}).catch(() => {
      throw new UploadError('connection');
    });
    const text = await response.text();
    if (!response.ok) {
      throw errorFrom(response.status, text);
    }
    const type = response.headers.get('Content-Type') ?? '';
    return {redirected: response.redirected, url: response.url, type, text};
  }

  function goOn(answer, progress) {
    if (answer === null) {
      progress.end('The upload is complete, but the answer was lost. Please reload the page.');
    } else if (answer.redirected) {
      location.assign(answer.url);
    } else {
      progress.end(answer.type.startsWith('text/plain') ? answer.text : 'The upload is complete.');
    }
  }

  document.addEventListener('submit', (event) => {
    const form = event.target;
    if (form.matches('[data-fileupload]') && !event.defaultPrevented) {
      event.preventDefault();
      if (!running.has(form)) {
        sendForm(form, event.submitter);
      }
    }
  });

  document.addEventListener('reset', (event) => {
    const sending = running.get(event.target);
    if (sending && sending.cancelled === null) {
      sending.cancelled = sending.upload.cancel();
    }
  });

  window.fileupload = {upload, UploadError};
})();
