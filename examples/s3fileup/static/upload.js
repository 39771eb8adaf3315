// Sends each chosen file to a presigned URL, and shows its progress and a link to it.
"use strict";

const form = document.querySelector("form");
const input = form.querySelector("input");
const section = document.querySelector("section");

async function ask(name, fields) {
    const answer = await fetch(`${form.dataset.address}/${name}/`, {method: "POST", body: new URLSearchParams(fields)});
    const data = await answer.json().catch(() => ({}));
    if (!answer.ok) throw new Error(data.error ?? `The server answered ${answer.status}.`);
    return data;
}

// fetch() does not report the progress of what it sends.
function put({url, headers}, file, onProgress) {
    return new Promise((resolve, reject) => {
        const request = new XMLHttpRequest();
        request.open("PUT", url);
        for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
        request.upload.onprogress = (event) => onProgress(event.loaded);
        request.onload = () => request.status === 200
            ? resolve() : reject(new Error(`The storage answered ${request.status}.`));
        request.onerror = () => reject(new Error("The storage cannot be reached. Does it accept this page (CORS)?"));
        request.send(file);
    });
}

function addRow(file) {
    const row = document.createElement("li");
    const name = document.createElement("span");
    const bar = document.createElement("progress");
    const message = document.createElement("output");
    name.textContent = file.name;
    bar.max = file.size || 1;
    bar.value = 0;
    bar.setAttribute("aria-label", `Progress of ${file.name}`);
    row.append(name, bar, message);
    section.querySelector("ul").prepend(row);
    section.hidden = false;
    return {name, bar, message};
}

async function send(file) {
    const {name, bar, message} = addRow(file);
    message.value = "Waiting…";
    try {
        const signed = await ask("s3put", {
            s3_object_name: file.name,
            s3_object_type: file.type || "application/octet-stream",
            s3_object_size: file.size,
        });
        await put(signed, file, (sent) => {
            bar.value = sent;
            message.value = `${Math.floor(100 * sent / (file.size || 1))} %`;
        });
        message.value = "Completing…";
        const link = document.createElement("a");
        link.href = (await ask("s3get", {key: signed.key})).url;
        link.textContent = file.name;
        name.replaceChildren(link);
        message.value = "Uploaded";
    } catch (error) {
        message.className = "error";
        message.value = error.message;
    }
    bar.hidden = true;
}

form.addEventListener("submit", (event) => {
    event.preventDefault();
    for (const file of input.files) send(file);
    form.reset();
});
