// Words that a LoRA knows: a click puts one at the end of the prompt, a second one takes it out again.
const prompt = () => document.querySelector("#prompt textarea");
const parts = () => (prompt()?.value ?? "").split(",").map((part) => part.trim());

function write(text) {
  const box = prompt();
  box.value = text;
  box.dispatchEvent(new Event("input", { bubbles: true }));
}

export function markWords() {
  const buttons = document.querySelectorAll(".model-words button");
  if (!buttons.length) return;
  const said = new Set(parts().map((part) => part.toLowerCase()));
  for (const button of buttons) {
    const pressed = String(said.has(button.dataset.words.toLowerCase()));
    if (button.getAttribute("aria-pressed") !== pressed) button.setAttribute("aria-pressed", pressed);
  }
}

document.addEventListener("click", (event) => {
  const word = event.target.closest?.(".model-words button")?.dataset.words;
  if (!word || !prompt()) return;
  const kept = parts().filter((part) => part.toLowerCase() !== word.toLowerCase());
  if (kept.length < parts().length) write(kept.join(", "));
  else write(prompt().value.trim() ? `${prompt().value.trim().replace(/,$/, "")}, ${word}` : word);
  markWords();
});

document.addEventListener("input", (event) => { if (event.target === prompt()) markWords(); });

// A picture that has left the disk leaves the row.
document.addEventListener("error", (event) => event.target.closest?.(".model-pictures a")?.remove(), true);
