// A picture that is dropped on the Metadata tab or on the prompt, pasted into the prompt, or chosen: its bytes go to our
// own route, which answers with the text in its header; the text goes into the tab's box, where it is read like one that
// was pasted there.
import { isList, takeFile } from "./lists.js";
import { englishOf } from "./language.js";

const MAX_BYTES = 64 * 2 ** 20;
const HEAD = { PNG: [0, "\x89PNG\r\n\x1a\n"], JPEG: [0, "\xff\xd8\xff"], WebP: [8, "WEBP"] };

const zone = (event) => event.target.closest?.("#metadata_tab, #prompt");
const carriesFile = (event) => event.dataTransfer?.types.includes("Files");
let newest = 0;

function say(words, alarm = false) {
  const place = document.querySelector("#metadata_tab .told-status");
  if (!place) return;
  place.textContent = words;
  place.classList.toggle("is-alarm", alarm);
}

function write(text) {
  const box = document.querySelector("#metadata_text textarea");
  if (!box) return;
  box.value = text;
  box.dispatchEvent(new Event("input", { bubbles: true }));
}

async function isPicture(file) {
  const head = String.fromCharCode(...new Uint8Array(await file.slice(0, 12).arrayBuffer()));
  return Object.values(HEAD).some(([start, mark]) => head.startsWith(mark, start));
}

async function textOf(file) {
  if (file.size > MAX_BYTES) throw new Error("This file is larger than 64 MB.");
  if (!(await isPicture(file))) throw new Error("This is not a PNG, JPEG or WebP picture.");
  const answer = await (await fetch("/metadata", { method: "POST", body: file })).json();
  if (answer.error) throw new Error(answer.error);
  return answer.text;
}

async function take(file) {
  if (isList(file)) { takeFile(file); return; }
  const asked = ++newest;
  if (!(await opened())) return;
  say("Reading …");
  try {
    const text = await textOf(file);
    if (asked !== newest) return;
    say(file.name ?? "");
    write(text);
  } catch (error) {
    if (asked !== newest) return;
    write("");
    say(error instanceof TypeError || error instanceof SyntaxError ? "The picture could not be read. Please try once more." : error.message, true);
  }
}

// The settings of a picture of this page go into the form; `newSeed`: all but its seed.
export async function useSettings(address, name, newSeed) {
  const file = await (await fetch(address)).blob();
  file.name = name;
  await take(file);
  const use = () => document.querySelector("#metadata_use");
  const told = () => document.querySelector("#metadata_answer");
  for (let tries = 0; tries < 200 && use()?.disabled !== false; tries += 1) await new Promise((go) => setTimeout(go, 30));
  if (use()?.disabled !== false) return;
  told().querySelector(".told-used")?.remove();
  use().click();
  if (!newSeed) return;
  for (let tries = 0; tries < 200 && !told().querySelector(".told-used"); tries += 1) await new Promise((go) => setTimeout(go, 30));
  const random = document.querySelector("#seed_random input");
  if (random && !random.checked) random.click();
}

async function takeText(text) {
  newest += 1;
  if (!(await opened())) return;
  say("");
  write(text);
}

// The Metadata tab, brought before the user; its box is there only once it was opened.
async function opened() {
  const box = () => document.querySelector("#metadata_text textarea");
  if (!box()?.checkVisibility()) {
    const advanced = document.querySelector("#advanced_checkbox input");
    if (advanced && !advanced.checked) advanced.click();
    [...document.querySelectorAll("#tabs [role=tab]")].find((tab) => englishOf(tab).trim() === "Metadata")?.click();
  }
  for (let tries = 0; tries < 100 && !box()?.checkVisibility(); tries += 1) await new Promise((go) => setTimeout(go, 30));
  document.querySelector("#metadata_tab")?.scrollIntoView({ block: innerWidth > 820 ? "nearest" : "start" });
  return box();
}

// A text that is the settings of a picture, and no prompt.
function tellsSettings(text) {
  const whole = text.trim();
  if (whole.startsWith("{")) {
    try {
      const said = JSON.parse(whole);
      return ["prompt", "Prompt", "parameters"].some((key) => Object.hasOwn(said, key));
    } catch {
      return false;
    }
  }
  const last = whole.slice(whole.lastIndexOf("\n") + 1);
  return /(^|, )Steps: \d+, /.test(last) && last.match(/(^|, )[\w][\w \-/]*: /g).length >= 3;
}

// A picture of this page is fetched again, byte for byte: what a browser carries may be a copy without its header.
async function fallen(carried) {
  const [file] = carried.files;
  const address = carried.getData("text/uri-list").split(/\r?\n/)[0];
  if (!address || !URL.canParse(address)) return file;
  const { origin, pathname } = new URL(address);
  if (origin !== location.origin || !pathname.startsWith("/pictures/")) return file;
  try {
    return await (await fetch(pathname)).blob();
  } catch {
    return file;
  }
}

document.addEventListener("change", (event) => {
  if (event.target.id !== "metadata_file") return;
  const [file] = event.target.files;
  if (file) take(file);
  event.target.value = ""; // the same file may be chosen again
});

function mark(over) {
  for (const place of document.querySelectorAll("#metadata_tab, #prompt")) place.classList.toggle("is-over", place === over);
}

document.addEventListener("dragover", (event) => {
  const place = carriesFile(event) ? zone(event) : null;
  mark(place);
  if (place) event.preventDefault();
}, true);
for (const kind of ["dragleave", "dragend"]) document.addEventListener(kind, () => mark(null));
document.addEventListener("drop", (event) => {
  mark(null);
  if (!zone(event) || !carriesFile(event)) return;
  event.preventDefault();
  fallen(event.dataTransfer).then((file) => { if (file) take(file); });
}, true);
// Beside those places a file would replace the page.
for (const kind of ["dragover", "drop"]) {
  window.addEventListener(kind, (event) => {
    if (!carriesFile(event) || event.defaultPrevented) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = "none";
  });
}
document.addEventListener("paste", (event) => {
  if (!event.target.closest?.("#prompt, #metadata_tab") || !event.clipboardData) return;
  const [file] = event.clipboardData.files;
  const text = event.clipboardData.getData("text/plain");
  const intoPrompt = event.target.closest("#prompt");
  if (file && !text) take(file);
  else if (intoPrompt && tellsSettings(text)) takeText(text);
  else return;
  event.preventDefault();
}, true);
// Typing over what a picture said: the picture's name does not belong to it any more.
document.addEventListener("input", (event) => { if (event.isTrusted && event.target.closest?.("#metadata_text")) { newest += 1; say(""); } });
