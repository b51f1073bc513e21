"use strict";

// The page of `nevus serve`. Every image is one request, so that a bad or slow one holds up no other.
const AT_ONCE = 2;
const TIMEOUT = 90000;
const settings = document.body.dataset;
const classes = settings.classes.split("|");
const visit = [];
const queue = [];
let running = 0;
let token = "";
try { token = sessionStorage.getItem("nevus-token") || ""; } catch { /* storage may be forbidden */ }

const find = (selector, root = document) => root.querySelector(selector);
const say = text => { find("#status").textContent = text; };
const percent = p => p < 0.01 ? "less than 1 %" : p > 0.99 ? "more than 99 %" : `${Math.round(100 * p)} %`;

function add(files) {
  for (const file of files) {
    const card = find("#result").content.cloneNode(true).firstElementChild;
    find("#results").prepend(card);
    find("#results-section").hidden = false;
    const job = { file, card, name: file.name || "pasted image" };
    find(".name", card).textContent = job.name;
    find(".outcome", card).textContent = "Waiting";
    find(".retry", card).addEventListener("click", () => { if (!job.busy) start(job); });
    if (/^image\/(jpeg|png|webp|gif)$/.test(file.type)) find(".photo", card).src = URL.createObjectURL(file);
    start(job);
  }
}

function start(job) {
  job.busy = true;
  find(".retry", job.card).hidden = true;
  if (job.file.size > Number(settings.maxBytes)) {
    fail(job, `The file has more than ${Math.round(settings.maxBytes / 1e6)} megabytes.`, false);
    return;
  }
  queue.push(job);
  next();
}

function next() {
  while (running < AT_ONCE && queue.length) {
    running += 1;
    send(queue.shift()).finally(() => { running -= 1; next(); });
  }
  const left = running + queue.length;
  if (left) say(`${left} ${left === 1 ? "image" : "images"} to go`);
}

function request(job) {
  return new Promise((resolve, reject) => {
    const body = new FormData(), call = new XMLHttpRequest(), bar = find("progress", job.card);
    body.append("files", job.file, job.name);
    const sensitivity = find("#sensitivity");
    if (sensitivity && sensitivity.value) body.append("sensitivity", sensitivity.value);
    call.open("POST", "/v1/predictions");
    call.timeout = TIMEOUT;
    call.responseType = "json";
    if (token) call.setRequestHeader("Authorization", `Bearer ${token}`);
    call.upload.addEventListener("progress", event => {
      if (event.lengthComputable) bar.value = 100 * event.loaded / event.total;
      find(".outcome", job.card).textContent = event.loaded < event.total ? "Sending" : "Predicting";
      if (event.loaded === event.total) bar.removeAttribute("value");
    });
    call.addEventListener("load", () => resolve(call));
    call.addEventListener("error", () => reject(new Error("The server cannot be reached.")));
    call.addEventListener("timeout", () => reject(new Error("The server does not answer.")));
    call.send(body);
  });
}

async function send(job) {
  find("progress", job.card).hidden = false;
  find(".outcome", job.card).textContent = "Sending";
  let call;
  try {
    call = await request(job);
  } catch (error) {
    fail(job, error.message, true);
    return;
  }
  if (call.status === 401) find("#token-row").hidden = false;
  if (call.status !== 200 || !call.response) {
    fail(job, call.response?.error || `The server answered with status ${call.status}.`, true);
    return;
  }
  show(job, call.response.predictions[0]);
}

function fail(job, reason, retry) {
  job.busy = false;
  job.card.className = "result unsure";
  find("progress", job.card).hidden = true;
  find(".outcome", job.card).textContent = `No prediction. ${reason}`;
  find(".retry", job.card).hidden = !retry;
  say(`${job.name}: no prediction. ${reason}`);
}

function show(job, one) {
  const { card } = job;
  job.busy = false;
  find("progress", card).hidden = true;
  find(".outcome", card).textContent = one.outcome;
  say(`${job.name}: ${one.outcome}`);
  visit.push({ ...one, image: job.name });
  addRow(visit.at(-1));
  if (one.error) {
    card.className = "result unsure";
    return;
  }
  const positive = settings.positive, cannot = one.flag !== "", several = one.set.length > 1;
  card.className = `result ${cannot || several ? "unsure" : one.decision === positive && settings.two ? "positive" : "judged"}`;
  find(".parts", card).hidden = false;
  find(".decision", card).textContent = one.decision;
  find(".set", card).textContent = one.set.join(", ") || "not known";
  find(".id", card).textContent = one.id;
  find(".probabilities", card).textContent = classes.map(name => `${name} ${one.probabilities[name].toFixed(3)}`).join(", ");
  const name = settings.two ? positive : one.label, p = one.probabilities[name];
  find(".meaning", card).textContent = cannot
    ? "The probabilities below were not validated for such an image. Do not use them."
    : `The probability of ${name} is ${percent(p)}: about ${Math.round(100 * p)} of 100 images with this value are ${name}, ${settings.like}.`;
  pictures(job, one);
}

async function picture(path) {
  const answer = await fetch(path, token ? { headers: { Authorization: `Bearer ${token}` } } : {});
  if (!answer.ok) return null;
  return URL.createObjectURL(await answer.blob());
}

async function pictures(job, one) {
  const photo = find(".photo", job.card), heat = find(".heat", job.card), slider = find(".slider", job.card);
  photo.alt = job.name;
  try {
    if (!photo.src) {
      const preview = await picture(`/v1/predictions/${one.id}/preview.jpg`);
      if (preview) photo.src = preview;
    }
    const map = await picture(`/v1/predictions/${one.id}/heatmap.png?background=none`);
    if (!map || !photo.src) return;
    heat.src = map;
    const input = find("input", slider);
    const apply = () => { heat.style.opacity = input.value / 100; };
    input.addEventListener("input", apply);
    apply();
    heat.hidden = slider.hidden = false;
  } catch {
    // The prediction is there; a heat map that cannot be fetched changes nothing of it.
  }
}

function addRow(one) {
  find("#visit").hidden = false;
  const row = find("#rows").insertRow();
  const cells = [one.image, one.outcome, one.decision ?? "", ...classes.map(name => one.probabilities?.[name].toFixed(3) ?? ""), one.id];
  for (const cell of cells) row.insertCell().textContent = cell;
}

function csv() {
  // A name that begins like a formula would be one in a spreadsheet.
  const cell = value => { const text = String(value ?? ""); const safe = /^[=+\-@\t\r]/.test(text) ? `'${text}` : text; return /[",\n\r]/.test(safe) ? `"${safe.replace(/"/g, '""')}"` : safe; };
  const head = ["image", "label", ...classes.map(name => `p_${name}`), "error", "decision", "set", "flag", "id"];
  const rows = visit.map(one => [one.image, one.label, ...classes.map(name => one.probabilities?.[name]), one.error, one.decision, one.set.join("|"), one.flag, one.id]);
  const url = URL.createObjectURL(new Blob([[head, ...rows].map(row => row.map(cell).join(",")).join("\n") + "\n"], { type: "text/csv" }));
  const link = document.createElement("a");
  link.href = url;
  link.download = "nevus-predictions.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

for (const id of ["#files", "#camera"]) {
  find(id).addEventListener("change", event => { add(event.target.files); event.target.value = ""; });
}
const drop = find("#drop");
for (const type of ["dragenter", "dragover"]) document.addEventListener(type, event => { event.preventDefault(); drop.classList.add("over"); });
for (const type of ["dragleave", "drop"]) document.addEventListener(type, event => { event.preventDefault(); drop.classList.remove("over"); });
document.addEventListener("drop", event => add(event.dataTransfer.files));
document.addEventListener("paste", event => { if (event.clipboardData.files.length) add(event.clipboardData.files); });
find("#csv").addEventListener("click", csv);
find("#print").addEventListener("click", () => window.print());
find("#token-save").addEventListener("click", () => {
  token = find("#token").value;
  try { sessionStorage.setItem("nevus-token", token); } catch { /* the token then lasts as long as the page */ }
  find("#token-row").hidden = true;
  say("The token is set. Send the images again.");
});
