// A list of prompts: Generate asks first what it comes to, and a file of them that is dropped becomes lines of the prompt.
import { notify } from "./stage.js";
import { isEditing, joinIn } from "./queue.js";

const MARK = /^\s*---\s*$/m;
const KINDS = /\.(txt|csv|tsv)$/i;
const MAX_BYTES = 2 ** 20;

let box = null;
let kind = "list"; // of what the dialog asks about: a list or a plot
let asking = false; // Generate was pressed, and the answer has not come

const press = (id) => document.querySelector(`#${id}`)?.click();
const part = (name) => box.querySelector(`.list-${name}`);
const many = (count, one) => `${count.toLocaleString("en")} ${one}${count === 1 ? "" : "s"}`;

export const lists = {
  mount(element, props, watch) {
    box = element.querySelector("dialog");
    part("cancel").addEventListener("click", () => box.close());
    part("run").addEventListener("click", () => { part("run").disabled = true; press(kind === "plot" ? "plot_run" : "list_run"); });
    watch("value", () => answered(props.value));
  },
};

// Generate was pressed: true where the prompt is a list, which is asked about from here.
export function takesList() {
  if (!box || isEditing() || !MARK.test(document.querySelector("#prompt textarea")?.value ?? "")) return false;
  if (!asking && !box.open) {
    asking = true;
    press("list_look");
  }
  return true;
}

export const isList = (file) => KINDS.test(file?.name ?? "");

// Lines take the place of a list that is in the prompt already; what stands before it stays.
export async function takeFile(file) {
  try {
    if (file.size > MAX_BYTES) throw new Error(`${file.name} is larger than 1 MB.`);
    const address = `/prompt-list?table=${!/\.txt$/i.test(file.name)}`;
    const answer = await (await fetch(address, { method: "POST", body: file })).json();
    if (answer.error) throw new Error(`${file.name}: ${answer.error}`);
    const field = document.querySelector("#prompt textarea");
    const common = field.value.split("\n");
    const mark = common.findIndex((line) => MARK.test(line));
    const before = (mark < 0 ? common : common.slice(0, mark)).join("\n").trim();
    field.value = [before, "---", ...answer.lines].filter(Boolean).join("\n");
    field.dispatchEvent(new Event("input", { bubbles: true }));
    field.focus();
    const wrong = answer.problems.length ? `\n${answer.problems.join("\n")}` : "";
    notify(`${many(answer.lines.length, "line")} of ${file.name} in the prompt. Generate asks before it begins.` + wrong, "note");
  } catch (error) {
    notify(error instanceof TypeError || error instanceof SyntaxError ? "The list could not be read. Please try once more." : error.message, "error");
  }
}

function answered(value) {
  asking = false;
  if (value?.state === "looked") open(value);
  else if (value?.state === "queued") {
    box.close();
    joinIn(value.last);
  } else if (value?.state === "refused") {
    box.close();
    notify(value.message, "error");
  }
}

function open({ tasks, pictures, time, problems, ...told }) {
  kind = told.kind ?? "list";
  box.querySelector("h2").textContent = kind === "plot" ? "An X/Y/Z plot" : "A list of prompts";
  part("sum").textContent = tasks ? `${kind === "plot" ? "" : `${many(tasks, "task")}, `}${many(pictures, "picture")}: ${time}.` : "No line of it can be used.";
  part("problems").replaceChildren(...problems.map((words) => Object.assign(document.createElement("li"), { textContent: words })));
  part("run").disabled = !tasks;
  part("run").textContent = problems.length && tasks ? `Queue the other ${many(tasks, "line")}` : "Queue them";
  box.showModal();
  (tasks ? part("run") : part("cancel")).focus();
}
