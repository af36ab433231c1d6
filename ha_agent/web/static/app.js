"use strict";
// Live parts by server-sent events, running ages, the filter of programs. Without this script the page reloads itself.

function ageText(seconds) {
  for (const [size, unit] of [[86400, "d"], [3600, "h"], [60, "min"]]) {
    if (seconds >= size) return `${Math.round(seconds / size)} ${unit}`;
  }
  return `${Math.max(0, Math.round(seconds))} s`;
}

function tick() {
  const now = Date.now() / 1000;
  for (const one of document.querySelectorAll("time[data-since]")) {
    const text = ageText(now - Number(one.dataset.since));
    if (one.textContent !== text) one.textContent = text;
  }
}

function roles() {
  const found = {};
  for (const node of document.querySelectorAll("[data-node]")) found[node.dataset.node] = node.dataset.role;
  return found;
}

function filterPrograms() {
  const field = document.getElementById("filter");
  if (!field) return;
  const wanted = field.value.trim().toLowerCase();
  for (const row of document.querySelectorAll("tr[data-program]")) {
    row.hidden = wanted !== "" && !row.dataset.program.toLowerCase().includes(wanted);
  }
  for (const row of document.querySelectorAll("tr[data-group]")) row.hidden = wanted !== "";
}

function replaceParts(parts) {
  const before = roles();
  const picked = new Set([...document.querySelectorAll("input[name=program]:checked")].map((one) => one.value));
  const focused = document.activeElement && document.activeElement.id;
  for (const [name, html] of Object.entries(parts)) {
    const part = document.getElementById(`part-${name}`);
    if (part) part.innerHTML = html;
  }
  if (focused && (!document.activeElement || document.activeElement === document.body)) {
    const again = document.getElementById(focused);
    if (again) again.focus();
  }
  for (const one of document.querySelectorAll("#live input[name=program]")) one.checked = picked.has(one.value);
  tick();
  filterPrograms();
  const title = document.querySelector("h1[data-title]");
  if (title) document.title = `${title.dataset.title} – ha-agent`;
  const news = [];
  for (const [node, role] of Object.entries(roles())) {
    if (before[node] !== role) {
      const word = document.querySelector(`[data-node="${CSS.escape(node)}"] .role, [data-node="${CSS.escape(node)}"] .state`);
      news.push(`${node}: ${word ? word.textContent.trim() : role}`);
    }
  }
  const announce = document.getElementById("announce");
  if (news.length && announce) announce.textContent = news.join(", ");
}

function follow(live) {
  const lost = document.getElementById("connection");
  const source = new EventSource(live.dataset.live);
  source.addEventListener("open", () => { lost.hidden = true; });
  source.addEventListener("parts", (event) => { lost.hidden = true; replaceParts(JSON.parse(event.data)); });
  source.addEventListener("over", () => { source.close(); location.href = "/login?next=" + encodeURIComponent(location.pathname); });
  source.addEventListener("error", () => {
    lost.hidden = false;
    if (source.readyState === EventSource.CLOSED) setTimeout(() => location.reload(), 5000);
  });
}

// The end of a log, as long as its box is ticked and the page is seen.
function followLog(box) {
  const text = document.getElementById(`text-${box.dataset.follow}`);
  box.parentElement.hidden = false;
  text.scrollTop = text.scrollHeight;
  const look = async () => {
    if (!box.checked || document.hidden) return;
    const answer = await fetch(`${text.dataset.log}&after=${text.dataset.end}`, { credentials: "same-origin" });
    if (!answer.ok) return;
    const part = await answer.json();
    if (part.end === Number(text.dataset.end)) return;
    text.dataset.end = part.end;
    const isAtEnd = text.scrollHeight - text.scrollTop - text.clientHeight < 40;
    text.textContent = (text.textContent + (part.whole ? "" : "\n…\n") + part.text).slice(-262144);
    const empty = document.getElementById(`empty-${box.dataset.follow}`);
    if (empty) empty.hidden = true;
    if (isAtEnd) text.scrollTop = text.scrollHeight;
  };
  setInterval(() => look().catch(() => {}), 2000);
}

// What a page would ask and tell is asked and told in a dialog over the page that one looks at.
async function askInDialog(url, options) {
  const answer = await fetch(url, { credentials: "same-origin", ...options });
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const part = page.querySelector("#confirmation, #result, main");
  let dialog = document.getElementById("ask");
  if (!dialog) {
    dialog = document.body.appendChild(document.createElement("dialog"));
    dialog.id = "ask";
    dialog.addEventListener("close", () => dialog.replaceChildren());
  }
  dialog.replaceChildren(part);
  dialog.setAttribute("aria-labelledby", part.querySelector("h1, h2")?.id || "");
  if (!dialog.open) dialog.showModal();
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("a");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  const isTold = link.closest("#result") && !document.getElementById("live");
  if (link.classList.contains("back") && link.closest("dialog") && !isTold) {
    event.preventDefault();
    link.closest("dialog").close();
  } else if (link.pathname.endsWith("/confirm") && document.getElementById("main")) {
    event.preventDefault();
    askInDialog(link.href).catch(() => { location.href = link.href; });
  }
});

document.addEventListener("submit", (event) => {
  // form.action is a button here, where that is called so.
  const form = event.target, path = form.getAttribute("action"), given = new FormData(form, event.submitter);
  if (path.endsWith("/confirm")) {
    event.preventDefault();
    const url = `${path}?${new URLSearchParams(given)}`;
    askInDialog(url).catch(() => { location.href = url; });
  } else if (path.endsWith("/do") && form.closest("dialog") && given.get("action") !== "switchover") {
    event.preventDefault();
    if (event.submitter) event.submitter.disabled = true;
    askInDialog(path, { method: "POST", body: new URLSearchParams(given) }).catch(() => { form.closest("dialog").close(); });
  }
});

for (const box of document.querySelectorAll("[data-follow]")) followLog(box);
const live = document.getElementById("live");
if (live) follow(live);
const reload = document.querySelector("[data-reload]");
if (reload) setTimeout(() => location.reload(), 1000 * Number(reload.dataset.reload));
const field = document.getElementById("filter");
if (field) field.addEventListener("input", filterPrograms);
setInterval(tick, 1000);
tick();
