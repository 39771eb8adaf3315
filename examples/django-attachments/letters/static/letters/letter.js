// Attaches files while the letter is being written: each is sent at once, and its row shows the progress.
// The form works without this script, too; the files are then sent with the letter.

const form = document.querySelector("form");
const input = form.querySelector("input[type=file]");
const list = document.getElementById("attachments");
const news = document.getElementById("news");
const template = document.getElementById("attachment");
const bundleUrl = new URL(form.dataset.attachments, location);

const BROKEN = "The connection broke off, or the file can no longer be read. Try it again.";

// Rows are waiting, sending (or finishing: all is sent, no answer yet), attached or failed.
const rows = new Set();
let sending = false;      // one file is on its way; the others wait
let letterWaits = false;  // the letter is to be sent as soon as its files are attached
let letterSent = false;

const isPending = (row) => ["waiting", "sending", "finishing"].includes(row.state);
const pendingRows = () => [...rows].filter(isPending);

function sizeText(bytes) {
    if (bytes < 1024) return bytes === 1 ? "1 byte" : `${bytes} bytes`;
    const power = Math.min(Math.floor(Math.log2(bytes) / 10), 4);
    return `${(bytes / 1024 ** power).toFixed(1).replace(/\.0$/, "")} ${["KB", "MB", "GB", "TB"][power - 1]}`;
}

function announce(text) {
    news.textContent = text;
}

function fileUrl(name) {
    return new URL(`${encodeURIComponent(name)}/`, bundleUrl);
}

// ---- rows ----

function addRow(name, size, file = null) {
    const item = template.content.firstElementChild.cloneNode(true);
    const row = {name, size, file, item, state: "waiting", request: null, unwanted: false};
    item.querySelector(".name").textContent = name;
    item.querySelector("progress").setAttribute("aria-label", `Progress of ${name}`);
    item.querySelector("button").setAttribute("aria-label", `Remove ${name}`);
    item.querySelector("button").addEventListener("click", () => remove(row));
    rows.add(row);
    list.append(item);
    draw(row);
    return row;
}

function draw(row, problem = "") {
    const {item, state} = row;
    item.dataset.state = state;
    item.querySelector(".size").textContent = sizeText(row.size);
    item.querySelector("progress").hidden = !isPending(row);
    item.querySelector(".problem").hidden = !problem;
    item.querySelector(".problem").textContent = problem;
}

function forget(row) {
    const next = row.item.nextElementSibling ?? row.item.previousElementSibling;
    const hadFocus = row.item.contains(document.activeElement);
    rows.delete(row);
    row.item.remove();
    if (hadFocus) (next?.querySelector("button") ?? input).focus();
}

function showAttached(row, {name, size}) {
    // A newer attachment replaces an older one with the same name.
    for (const other of rows) {
        if (other !== row && other.state === "attached" && other.name === name) forget(other);
    }
    Object.assign(row, {name, size, state: "attached"});
    row.item.querySelector(".name").textContent = name;
    row.item.querySelector(".name").href = fileUrl(name);
    draw(row);
}

function fail(row, sentence) {
    row.state = "failed";
    draw(row, sentence);
    announce(`${row.name} is not attached. ${sentence}${letterWaits ? " The letter is not sent." : ""}`);
    letterWaits = false;
}

// ---- sending ----

function attach(files) {
    for (const file of files) addRow(file.name, file.size, file);
    sendNext();
}

async function sendNext() {
    const row = [...rows].find(({state}) => state === "waiting");
    if (sending) return;
    if (!row) {
        if (letterWaits) form.requestSubmit();
        return;
    }
    sending = true;
    row.state = "sending";
    draw(row);
    try {
        const [attachment] = await put(row);
        showAttached(row, attachment);
        announce(`${row.name} is attached.`);
        if (row.unwanted) await remove(row);
    } catch (error) {
        if (row.unwanted) forget(row);
        else fail(row, error.message);
    }
    sending = false;
    sendNext();
}

// XMLHttpRequest, because fetch has no upload progress.
function put(row) {
    const url = new URL(bundleUrl);
    url.searchParams.set("filename", row.name);
    const request = new XMLHttpRequest();
    row.request = request;
    request.open("PUT", url);
    request.responseType = "json";
    request.upload.addEventListener("progress", ({loaded, total}) => {
        row.item.querySelector("progress").value = total ? loaded / total : 1;
    });
    request.upload.addEventListener("load", () => {
        row.state = "finishing";
    });
    return new Promise((resolve, reject) => {
        request.addEventListener("loadend", () => {
            if (request.status === 200) resolve(request.response);
            else reject(new Error(sentenceOf(request.status, request.response)));
        });
        request.send(row.file);
    });
}

function sentenceOf(status, answer) {
    return status ? answer?.detail || `The server answered ${status}.` : BROKEN;
}

// ---- removing ----

async function remove(row) {
    row.unwanted = true;
    if (row.state === "finishing") return;  // it may be attached already, which the answer will tell
    if (row.state === "attached" && !await isDeleted(row)) return;
    if (row.state === "sending") row.request.abort();
    forget(row);
    announce(`${row.name} is removed.`);
}

async function isDeleted(row) {
    const response = await fetch(fileUrl(row.name), {method: "DELETE"}).catch(() => null);
    if (response?.ok) return true;
    const sentence = sentenceOf(response?.status, await response?.json().catch(() => null));
    draw(row, sentence);
    announce(`${row.name} is not removed. ${sentence}`);
    return false;
}

// ---- the letter ----

form.addEventListener("submit", (event) => {
    if (letterSent) {
        event.preventDefault();  // once is enough
    } else if (pendingRows().length) {
        event.preventDefault();
        letterWaits = true;
        announce("The letter will be sent when all files are attached.");
    } else {
        letterSent = true;
    }
});

input.addEventListener("change", () => {
    attach(input.files);
    input.value = "";  // so that they are not sent once more, with the letter
});

// ---- dropping ----

const bringsFiles = (event) => event.dataTransfer.types.includes("Files");

document.addEventListener("dragover", (event) => {
    if (!bringsFiles(event)) return;
    event.preventDefault();
    document.body.classList.add("dropping");
});

document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) document.body.classList.remove("dropping");
});

document.addEventListener("drop", (event) => {
    document.body.classList.remove("dropping");
    if (!bringsFiles(event)) return;
    event.preventDefault();
    attach(event.dataTransfer.files);
});

// ---- opening the page, or returning to it ----

async function showBundle() {
    const shown = [...rows].filter(({state}) => state === "attached");
    const response = await fetch(bundleUrl, {cache: "no-store"});
    if (!response.ok) return;
    const attachments = await response.json();
    shown.forEach(forget);
    for (const attachment of attachments) showAttached(addRow(attachment.name, attachment.size), attachment);
}

addEventListener("pageshow", () => {
    letterSent = false;
    showBundle().catch(() => {});
});

document.documentElement.classList.add("scripted");
