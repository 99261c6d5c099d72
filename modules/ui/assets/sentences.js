// Finds the translation of an English text: whole, as a sentence with values in it, or piece by piece; knows no page.
const VALUE = /\{[a-z][a-z0-9_]*\}/g;
const DEPTH = 4; // values in values
const MOST_REMEMBERED = 5000;
const LETTER = /\p{L}/u;

export class Sentences {
  constructor(texts) {
    this.whole = new Map();
    this.patterns = [];
    this.memory = new Map();
    for (const [english, said] of Object.entries(texts)) {
      if (!said) continue;
      if (english.search(VALUE) < 0) this.whole.set(english.trim(), said);
      else this.patterns.push(pattern(english.trim(), said));
    }
    this.patterns.sort((a, b) => b.letters - a.letters); // what says more is meant before what says less
  }

  // The text in this language, with the blanks around it; as it is where nothing of it is known.
  said(text) {
    if (!LETTER.test(text)) return text;
    let answer = this.memory.get(text);
    if (answer === undefined) {
      if (this.memory.size > MOST_REMEMBERED) this.memory.clear();
      const [, before, middle, after] = /^(\s*)([^]*?)(\s*)$/.exec(text);
      answer = before + (this.find(middle, 0) ?? middle) + after;
      this.memory.set(text, answer);
    }
    return answer;
  }

  find(text, depth) {
    return this.whole.get(text) ?? this.filled(text, depth) ?? this.pieces(text, depth) ?? this.headed(text, depth);
  }

  filled(text, depth) {
    if (depth > DEPTH) return null;
    for (const { shape, names, said } of this.patterns) {
      const found = shape.exec(text);
      if (!found) continue;
      const values = Object.fromEntries(names.map((name, place) => [name, found[place + 1]]));
      return said.replace(VALUE, (name) => { const value = values[name] ?? ""; return this.find(value, depth + 1) ?? value; });
    }
    return null;
  }

  // Facts between dots, lines, sentences: each for itself, as many together as are known together.
  pieces(text, depth) {
    if (depth > DEPTH) return null;
    for (const split of [/(\s+·\s+)/, /(\n)/]) if (split.test(text)) return this.each(text.split(split), depth);
    const parts = text.split(/(?<=[.!?…])(\s+)/);
    if (parts.length < 2) return null;
    for (let many = parts.length - 2; many > 0; many -= 2) {
      const first = parts.slice(0, many).join("");
      const said = this.whole.get(first) ?? this.filled(first, depth);
      if (said === undefined || said === null) continue;
      const rest = parts.slice(many + 1).join("");
      return said + (/[。！？…]$/.test(said) ? "" : " ") + (this.find(rest, depth) ?? rest);
    }
    const rest = parts.slice(2).join("");
    const said = this.find(rest, depth);
    return said === null ? null : `${parts[0]} ${said}`;
  }

  each(parts, depth) {
    const said = parts.map((part) => this.find(part, depth + 1) ?? part);
    return said.some((each, place) => each !== parts[place]) ? said.join("") : null;
  }

  // "Name: anything", where the name is known.
  headed(text, depth) {
    const place = text.indexOf(": ");
    const said = place > 0 && this.whole.get(text.slice(0, place));
    if (!said) return null;
    const rest = text.slice(place + 2);
    return `${said}: ${depth > DEPTH ? rest : this.find(rest, depth + 1) ?? rest}`;
  }
}

function pattern(english, said) {
  const literals = english.split(VALUE);
  const letters = literals.join("").match(/\p{L}/gu)?.length ?? 0;
  const names = english.match(VALUE);
  const escaped = literals.map((each) => each.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  // {n}: a name of one letter is that of a number
  const shape = escaped.reduce((all, each, place) => all + (names[place - 1].length === 3 ? "([\\d.,]+)" : "(.*?)") + each);
  return { shape: new RegExp(`^${shape}$`), names, said, letters };
}
