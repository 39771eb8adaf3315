// busboy on Node: the file is piped to the disk while it is parsed. `node busboy_server.js PORT`
'use strict';

const crypto = require('node:crypto');
const fs = require('node:fs');
const http = require('node:http');
const path = require('node:path');
const { pipeline } = require('node:stream');
const busboy = require('busboy');

const BUFFER = 1 << 20; // of the writer; larger buffers of the parser itself made it slower

const server = http.createServer((request, response) => {
  let received = 0;
  let open = 1; // the form itself, and each of its files
  const close = (error) => {
    if (error) {
      response.writeHead(500);
      response.end(`${error}\n`);
      open = NaN;
    } else if (--open === 0) {
      response.writeHead(200, { 'Content-Type': 'text/plain' });
      response.end(`${received}\n`);
    }
  };
  const form = busboy({ headers: request.headers });
  form.on('file', (name, file) => {
    open += 1;
    const target = path.join(process.env.BENCH_DIRECTORY, crypto.randomBytes(8).toString('hex'));
    const writer = fs.createWriteStream(target, { flags: 'wx', highWaterMark: BUFFER });
    pipeline(file, writer, (error) => {
      received += writer.bytesWritten;
      close(error);
    });
  });
  form.on('close', () => close());
  form.on('error', close);
  request.pipe(form);
});
server.requestTimeout = 0;
server.keepAliveTimeout = 60000;
server.listen(Number(process.argv[2]), '127.0.0.1');
