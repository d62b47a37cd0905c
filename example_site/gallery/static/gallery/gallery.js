// Sends pictures, one request each, and patches the page by what the server tells.

const form = document.getElementById("add");
const fields = Object.fromEntries([...form.querySelectorAll("input")].map((input) => [input.name || input.id, input]));

// Being told

const connection = document.getElementById("connection");
let source = null;

function listen() {
  source = new EventSource(document.body.dataset.events);
  source.onopen = () => connect("live");
  source.onerror = () => {
    connect("trying");
    // It tries again by itself, unless the answer was no stream, as that of a proxy may be.
    if (source.readyState === EventSource.CLOSED) setTimeout(listen, 5000);
  };
  source.addEventListener("part", (event) => show(JSON.parse(event.data)));
}

function connect(state) {
  connection.dataset.state = state;
  connection.textContent = { live: "live", trying: "not live, trying again" }[state];
}

function show({ id, into, html }) {
  const template = document.createElement("template");
  template.innerHTML = html;
  const fresh = template.content.firstElementChild;
  const old = document.getElementById(id);
  if (old) return patch(old, fresh);
  const place = document.getElementById(into);
  place[place.dataset.newest === "first" ? "prepend" : "append"](fresh);
}

// Changes only what differs: bars glide, the focus stays, and nothing is read out twice.
function patch(old, fresh) {
  if (old.nodeName !== fresh.nodeName) return old.replaceWith(fresh);
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  const before = [...old.childNodes];
  [...fresh.childNodes].forEach((child, i) => (before[i] ? patch(before[i], child) : old.append(child)));
  before.slice(fresh.childNodes.length).forEach((child) => child.remove());
}

// A browser has few connections per site: a page that nobody sees gives its own back.
document.addEventListener("visibilitychange", () => {
  source?.close();
  if (!document.hidden) listen();
});
addEventListener("pagehide", () => source?.close());
if (!document.hidden) listen();

// Sending

const sending = form.querySelector(".sending");
const bar = sending.querySelector("progress");
const refused = document.getElementById("refused");
const queue = [];
let sent = 0;

async function send(files, name) {
  if (!queue.length) refused.replaceChildren();
  const upload = { url: form.action, name };
  const waiting = queue.length;
  const most = Number(form.dataset.maxFiles);
  if (files.length > most) refuse(`These are ${files.length} files; the first ${most} are sent.`);
  queue.push(...files.slice(0, most).filter(fits).map((file) => ({ file, upload })));
  if (waiting) return; // the loop below goes on with these
  for (sent = 0; queue.length; queue.shift(), sent++) {
    tell();
    await sendOne(queue[0]).catch(() => refuse(`${queue[0].file.name} could not be sent: the site does not answer.`));
  }
  tell();
}

async function sendOne({ file, upload }) {
  const body = new FormData();
  body.append("name", upload.name);
  body.append("pictures", file);
  const headers = { Accept: "application/json", "X-CSRFToken": fields.csrfmiddlewaretoken.value };
  const answer = await fetch(upload.url, { method: "POST", body, headers });
  if (!answer.ok) return refuse(`${file.name} could not be sent: the site answers ${answer.status}.`);
  const told = await answer.json();
  upload.url = told.more; // the files after the first go to the same upload
  told.refused.forEach(refuse);
}

function fits(file) {
  const megabytes = file.size / 2 ** 20;
  const most = Number(form.dataset.maxMegabytes);
  if (megabytes > most) refuse(`${file.name} has ${megabytes.toFixed(1)} MB; the most that is taken is ${most} MB.`);
  return megabytes <= most;
}

function refuse(reason) {
  if (!refused.firstChild) refused.append(document.createElement("ul"));
  const line = document.createElement("li");
  line.textContent = reason;
  refused.firstChild.append(line);
}

function tell() {
  sending.hidden = !queue.length;
  bar.max = sent + queue.length;
  bar.value = sent;
  sending.querySelector("label").textContent = `Sending ${sent + 1} of ${bar.max}`;
}

// Choosing and dropping

const isVisible = (file) => !file.name.startsWith(".");

fields.pictures.addEventListener("change", () => {
  send([...fields.pictures.files], "");
  fields.pictures.value = "";
});

fields.folder.parentElement.hidden = !("webkitdirectory" in fields.folder);
fields.folder.addEventListener("change", () => {
  const files = [...fields.folder.files].filter(isVisible);
  if (files.length) send(files, files[0].webkitRelativePath.split("/")[0]);
  fields.folder.value = "";
});

let over = 0; // of how many nested elements the pointer has entered
addEventListener("dragenter", () => form.classList.toggle("over", ++over > 0));
addEventListener("dragleave", () => form.classList.toggle("over", --over > 0));
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", async (event) => {
  event.preventDefault();
  form.classList.toggle("over", (over = 0) > 0);
  // The entries are gone after the first await.
  const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry()).filter(Boolean);
  const files = (await Promise.all(entries.map(filesOf))).flat().filter(isVisible);
  send(files, entries.find((entry) => entry.isDirectory)?.name ?? "");
});

async function filesOf(entry) {
  if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) break; // it gives a hundred at a time
    found.push(...some);
  }
  return (await Promise.all(found.map(filesOf))).flat();
}
