// The panel under the prompt: what the first picture would be told; all text goes in as text, never as HTML.
const QUIET_MS = 350; // after the last change of the form
const AGAIN_MS = 4000; // until the engine is asked once more
const MAX_TRIES = 6;

const root = document.documentElement;
let panel = null;
let example = Math.floor(Math.random() * 2 ** 48);
let due = null;
let tries = 0;
let opening = false;

export const exampleSeed = () => example;
const isOpen = () => root.dataset.final === "open";

export function mountFinalPrompt(element, props, watch) {
  panel = element.querySelector(".final-box");
  draw(props.value);
  watch("value", () => draw(props.value));
}

export function toggleFinalPrompt() {
  root.dataset.final = isOpen() ? "closed" : "open";
  document.querySelector("#final_switch")?.setAttribute("aria-expanded", String(isOpen()));
  tries = 0;
  opening = isOpen();
  if (isOpen()) lookIn(0);
}

// Something in the form is different.
export function formChanged() {
  tries = 0;
  if (isOpen()) lookIn(QUIET_MS);
}

function lookIn(delay) {
  clearTimeout(due);
  due = setTimeout(() => { if (isOpen()) document.querySelector("#look_button")?.click(); }, delay);
}

function draw(view) {
  if (!panel) return;
  if (view.state === "empty") panel.replaceChildren();
  else if (view.state === "refused") panel.replaceChildren(element("p", "final-note", view.message));
  else panel.replaceChildren(head(view), ...texts(view), ...facts(view));
  if (opening && view.state !== "empty") {
    opening = false;
    panel.scrollIntoView({ block: "nearest" }); // it may lie below the window
  }
  if (view.later && tries++ < MAX_TRIES) lookIn(AGAIN_MS);
}

function head(view) {
  const line = element("p", "final-head");
  if (!view.example) {
    line.append(view.pictures > 1 ? `Picture 1 of ${view.pictures}, seed ${view.seed}` : `Seed ${view.seed}`);
    return line;
  }
  const another = element("button", "final-another", "Another example");
  another.type = "button";
  another.addEventListener("click", () => {
    example = Math.floor(Math.random() * 2 ** 48);
    tries = 0;
    lookIn(0);
  });
  line.append("An example: the seed is random, so every picture draws anew.", another);
  return line;
}

function texts(view) {
  const lists = [list("", view.positive, view.added)];
  if (view.negative.some((line) => line.text)) lists.push(list("Not", view.negative, ""));
  return lists;
}

function list(title, lines, added) {
  const made = element("ul", title ? "final-list is-negative" : "final-list");
  made.setAttribute("aria-label", title ? "What is to be avoided" : "What is to be seen");
  lines.forEach((line, place) => {
    const item = element("li");
    const text = element("span", "final-text");
    const ours = added && place === lines.length - 1 ? added : "";
    text.append(ours ? line.text.slice(0, -ours.length) : line.text || "(empty)");
    if (ours) text.append(element("mark", "final-added", ours));
    const count = element("span", "final-count", line.tokens.length > 1 ? line.tokens.join(" + ") : `${line.tokens[0]} / 75`);
    count.title = line.tokens.length > 1 ? `Tokens in each of ${line.tokens.length} chunks` : "Tokens in its chunk of 75";
    item.append(text, count);
    made.append(item);
  });
  return made;
}

function facts(view) {
  const chunks = Math.max(...[view.positive, view.negative].map((side) => side.reduce((sum, line) => sum + line.tokens.length, 0)));
  const pieces = [
    view.styles.length ? `Styles: ${view.styles.join(", ")}` : "No styles",
    view.loras.length ? `LoRAs: ${view.loras.join(", ")}` : "",
    `${chunks} ${chunks === 1 ? "chunk" : "chunks"} of 77 tokens`,
  ];
  const notes = [view.pending && `Fooocus V2: ${view.pending}`, ...view.notes].filter(Boolean);
  return [element("p", "final-facts", pieces.filter(Boolean).join(" · ")), ...notes.map((note) => element("p", "final-note", note))];
}

function element(tag, className = "", text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}
