// How long a picture took: a line that opens to a table of its stages.
import { duration } from "./stage.js";

const exact = (seconds) => (seconds < 10 ? `${seconds.toFixed(seconds < 1 ? 2 : 1)} s` : duration(seconds));

// The element for a picture's stages, [words, seconds] each; null where nothing is known of it.
export function timings(stages) {
  if (!stages?.length) return null;
  const whole = stages.reduce((sum, [, seconds]) => sum + seconds, 0);
  const box = document.createElement("details");
  box.className = "timings";
  const line = document.createElement("summary");
  line.textContent = `How long it took: ${exact(whole)}`;
  const table = document.createElement("table");
  for (const [words, seconds] of stages) {
    const row = table.insertRow();
    const name = document.createElement("th");
    name.scope = "row";
    name.textContent = words;
    const bar = document.createElement("i");
    bar.style.width = `${Math.round((100 * seconds) / whole)}%`;
    row.append(name);
    row.insertCell().textContent = exact(seconds);
    row.insertCell().append(bar);
  }
  box.append(line, table);
  return box;
}
