// Ctrl + arrow up or down in a prompt: the weight of the selection, or of what the caret stands in; knows no server.
const STEP = 0.1;
const LORA_STEP = 0.05;
const MOST = 10; // far beyond what any picture survives
const WORD = /[^\s.,\\/!?%^*;:{}=`~()<>[\]"]/;
const NUMBER = /:\s*([+-]?(?:\d+\.?\d*|\.\d+))\s*$/;

export function changeWeight(event) {
  const box = event.target;
  if (!(event.ctrlKey || event.metaKey) || event.shiftKey || event.altKey || event.isComposing) return;
  if (event.key !== "ArrowUp" && event.key !== "ArrowDown") return;
  if (!(box instanceof HTMLTextAreaElement) || !box.closest("[id*='prompt']")) return;
  event.preventDefault();
  const change = reweighted(box.value, box.selectionStart, box.selectionEnd, event.key === "ArrowUp" ? 1 : -1);
  if (!change) return;
  box.setSelectionRange(change.begin, change.end);
  // The one way that the browser's own undo knows of.
  if (!document.execCommand("insertText", false, change.text)) {
    box.setRangeText(change.text);
    box.dispatchEvent(new Event("input", { bubbles: true }));
  }
  box.setSelectionRange(change.begin + change.from, change.begin + change.to);
}

// What to put in place of begin..end, and which part of that to select (from..to); null where there is nothing to weigh.
export function reweighted(text, start, end, direction) {
  while (start < end && /\s/.test(text[start])) start += 1;
  while (end > start && /\s/.test(text[end - 1])) end -= 1;
  const tag = tagAround(text, start, end);
  if (tag) return weighed(text, tag, direction * LORA_STEP, 1, true);
  const bracket = bracketAround(text, start, end);
  if (bracket) return weighed(text, bracket, direction * STEP, 1.1, false);
  if (start === end) [start, end] = wordAround(text, start);
  if (start === end || !isBalanced(text.slice(start, end))) return null;
  const number = written(1 + direction * STEP);
  return { begin: start, end, text: `(${text.slice(start, end)}:${number})`, from: 1, to: 1 + end - start };
}

function weighed(text, [begin, end], step, implied, isTag) {
  const inside = text.slice(begin + 1, end - 1);
  const found = NUMBER.exec(inside);
  const words = found ? inside.slice(0, found.index) : inside;
  const weight = Math.min(MOST, Math.max(isTag ? -MOST : 0, (found ? Number(found[1]) : implied) + step));
  if (!isTag && written(weight) === "1.0") return { begin, end, text: words, from: 0, to: words.length };
  const [open, close] = isTag ? "<>" : "()";
  return { begin, end, text: `${open}${words}:${written(weight)}${close}`, from: 1, to: 1 + words.length };
}

const written = (weight) => {
  const number = String(Number(weight.toFixed(4)));
  return number.includes(".") ? number : `${number}.0`;
};

// The tag <lora:name:0.8> that holds the range.
function tagAround(text, start, end) {
  const begin = text.lastIndexOf("<", start);
  const close = begin < 0 ? -1 : text.indexOf(">", begin);
  return close >= 0 && close + 1 >= end && start <= close && /^<lora:[^<>]+$/.test(text.slice(begin, close)) ? [begin, close + 1] : null;
}

// The innermost bracket that holds the caret, or whose words or whole are what is selected.
function bracketAround(text, start, end) {
  const open = [];
  let best = null;
  for (let place = 0; place < text.length; place += 1) {
    if (text[place] === "\\") place += 1;
    else if (text[place] === "(") open.push(place);
    else if (text[place] === ")" && open.length) {
      const begin = open.pop();
      const words = text.slice(begin + 1, place).replace(NUMBER, "");
      const whole = begin === start && place + 1 === end;
      const within = start === end ? begin < start && start <= place : begin + 1 === start && begin + 1 + words.length === end;
      if (!best && (whole || within)) best = [begin, place + 1];
    }
  }
  return best;
}

function wordAround(text, caret) {
  let [start, end] = [caret, caret];
  while (start > 0 && WORD.test(text[start - 1])) start -= 1;
  while (end < text.length && WORD.test(text[end])) end += 1;
  return [start, end];
}

function isBalanced(text) {
  let depth = 0;
  for (const symbol of text.replace(/\\./g, "")) {
    if (symbol === "(") depth += 1;
    else if (symbol === ")" && --depth < 0) return false;
  }
  return depth === 0;
}
