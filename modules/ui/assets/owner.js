// The machine's settings for its owner, and every connection to elsewhere; asks our own routes.
let dialog = null;

const TIME = new Intl.DateTimeFormat("en", { dateStyle: "medium", timeStyle: "medium" });

export function openOwner() {
  dialog ??= new Owner();
  dialog.open();
}

async function ask(address, values) {
  const options = values && { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ values }) };
  let answer;
  try {
    answer = await (await fetch(address, options || {})).json();
  } catch {
    throw new Error("Pinhole does not answer. Is it still running?");
  }
  if (answer.error) throw new Error(answer.error);
  return answer;
}

class Owner {
  constructor() {
    this.dialog = make("dialog", "owner", "", { "aria-label": "This machine" });
    const head = make("div", "owner-head");
    const close = button("Close", "owner-button");
    close.addEventListener("click", () => this.dialog.close());
    head.append(make("h2", "", "This machine"), close);
    this.lead = make("p", "owner-lead");
    this.form = make("form", "owner-form");
    this.trouble = make("p", "owner-trouble", "", { role: "alert" });
    this.said = make("p", "owner-said", "", { role: "status" });
    this.save = button("Save", "owner-button is-first");
    this.save.type = "submit";
    this.form.addEventListener("submit", (event) => { event.preventDefault(); this.keep(); });
    this.form.addEventListener("input", () => this.compare());
    this.connections = make("section", "owner-connections");
    const body = make("div", "owner-body");
    body.append(this.connections, this.lead, this.form);
    this.dialog.append(head, body);
    document.body.append(this.dialog);
  }

  async open() {
    this.dialog.showModal();
    this.tell("", "");
    try {
      const [settings, connections] = await Promise.all([ask("/owner/settings"), ask("/owner/connections")]);
      this.fill(settings);
      this.list(connections);
    } catch (error) {
      this.lead.textContent = error.message;
      this.form.replaceChildren();
      this.connections.replaceChildren();
    }
  }

  fill({ file, rows }) {
    this.lead.textContent = `What is changed here is written into ${file} and takes effect at the next start.`;
    const foot = make("div", "owner-foot");
    foot.append(this.save, this.said);
    this.rows = rows.map((row) => new Row(row));
    this.form.replaceChildren(...this.rows.map((row) => row.element), this.trouble, foot);
    this.compare();
  }

  compare() {
    this.save.disabled = !this.rows.some((row) => row.changed);
  }

  async keep() {
    const values = Object.fromEntries(this.rows.filter((row) => row.changed).map((row) => [row.key, row.wish]));
    try {
      this.fill(await ask("/owner/settings", values));
      this.tell("", "Saved. It takes effect at the next start of Pinhole.");
    } catch (error) {
      this.tell(error.message, "");
    }
  }

  tell(trouble, said) {
    this.trouble.textContent = trouble;
    this.said.textContent = said;
  }

  list({ offline, count, requests }) {
    const rule = offline ? "Pinhole is offline: it opens none, whoever asks."
      : "Pinhole asks a server only when somebody presses a button that says so.";
    const none = make("p", "owner-none", "None since the start.");
    this.connections.replaceChildren(make("h3", "", "Connections to elsewhere"), make("p", "owner-hint", rule));
    if (!count) { this.connections.append(none); return; }
    const table = make("table", "");
    const head = table.createTHead().insertRow();
    for (const words of ["When", "Server", "What for", "Received"]) head.append(make("th", "", words, { scope: "col" }));
    const body = table.createTBody();
    for (const request of requests) {
      const line = body.insertRow();
      for (const words of [TIME.format(new Date(request.began * 1000)), request.host, request.purpose, size(request.received)]) {
        line.insertCell().textContent = words;
      }
    }
    const box = make("div", "owner-table", "", { tabindex: "0" });
    box.append(table);
    this.connections.append(box);
    if (count > requests.length) this.connections.append(make("p", "owner-hint", `${count} in all; the last ${requests.length} are shown.`));
  }
}

// One setting: its control, or its value as a text where it cannot be changed here.
class Row {
  constructor(row) {
    this.key = row.key;
    this.kind = row.kind;
    this.element = make("div", "owner-row");
    const label = make("label", "owner-label", row.label, { for: `owner_${row.key}` });
    const shown = row.next ?? row.value;
    this.control = control(row, shown);
    this.control.id = `owner_${row.key}`;
    this.first = JSON.stringify(this.wish);
    const about = make("p", "owner-hint");
    about.append(make("span", "", [row.hint, source(row)].filter(Boolean).join(" ")));
    if (row.next !== null) about.append(make("b", "", ` Waits for the next start; now it is ${words(row.value)}.`));
    this.element.append(label, this.control, about);
  }

  get wish() {
    if (this.kind === "switch") return this.control.checked;
    if (this.kind === "folders") return lines(this.control.value);
    if (this.kind === "folder" || this.kind === "text") return this.control.value.trim();
    return null;
  }

  get changed() {
    return this.kind !== "fixed" && JSON.stringify(this.wish) !== this.first;
  }
}

function control(row, shown) {
  if (row.kind === "fixed") return make("output", "owner-value", words(row.value));
  if (row.kind === "switch") {
    const box = make("input", "owner-switch", "", { type: "checkbox" });
    box.checked = shown;
    return box;
  }
  const many = row.kind === "folders";
  const box = make(many ? "textarea" : "input", "owner-text", "", many ? { rows: String(Math.max(1, shown.length)), spellcheck: "false" } : { type: "text", spellcheck: "false" });
  box.value = many ? shown.join("\n") : shown;
  return box;
}

const source = (row) => (row.source === "built in" ? "" : `From: ${row.source}.`);
const lines = (text) => text.split("\n").map((line) => line.trim()).filter(Boolean);
const words = (value) => (Array.isArray(value) ? value.join(", ") : value === true ? "on" : value === false ? "off" : value || "nothing");

function size(count) {
  let left = count;
  for (const unit of ["bytes", "kB", "MB"]) {
    if (left < 999.5) return `${Math.round(left)} ${unit}`;
    left /= 1000;
  }
  return `${left.toFixed(1)} GB`;
}

function make(tag, className, text = "", attributes = {}) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text) made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function button(label, className) {
  return make("button", className, label, { type: "button" });
}
