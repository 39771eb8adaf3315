// Sends the form by script, and polls the status of the upload to show its progress.
// The form works without this script, too; the browser then shows its own progress.
"use strict";

const form = document.querySelector("form.upload");
const bar = form.querySelector("progress");
const message = form.querySelector("output");

// The URL of the status is that of the form with /status appended to its path: /upload/status?X-Progress-ID=…
const statusUrl = new URL(form.action);
statusUrl.pathname += "/status";

let sending = false;

async function showStatus() {
    const response = await fetch(statusUrl, {cache: "no-store"});
    const status = await response.json();
    if (sending && status.state === "uploading" && status.size) {
        bar.max = status.size;
        bar.value = status.received;
        message.value = `${Math.floor(100 * status.received / status.size)} % of ${status.filename}`;
    }
}

async function follow() {
    while (sending) {
        await new Promise((resolve) => setTimeout(resolve, 500));
        await showStatus().catch(() => {});  // one answer missed does no harm: the next one tells more
    }
}

async function post(url, body) {
    const response = await fetch(url, {method: "POST", body});
    if (!response.ok) {
        const problem = await response.json().catch(() => ({}));
        throw new Error(problem.detail || `The server answered ${response.status}.`);
    }
    return response;
}

async function send(fields) {
    const response = await post(form.action, fields);
    if (!form.dataset.finish) return response.url;
    // A dedicated server received the file. Tell the app, which opens the bucket in the shared pool.
    const identifier = statusUrl.searchParams.get("X-Progress-ID");
    return (await post(form.dataset.finish, new URLSearchParams({identifier}))).url;
}

form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (sending) return;
    sending = true;
    bar.hidden = false;
    bar.removeAttribute("value");
    message.value = "Sending…";
    follow();
    try {
        location.assign(await send(new FormData(form)));
    } catch (error) {
        bar.hidden = true;
        message.value = error.message;
    } finally {
        sending = false;
    }
});
