// Notices that the server, or the stream of a running task, is gone; says so, and takes the task up again.
const EVERY_MS = 1500;
const QUIET_MS = 4000; // the server sends something every 2.5 seconds while a task runs
const SILENT_MS = 15000;
let timer = null;
let lost = false;
let boot = null;
let lastHeard = performance.now();

const hooks = { lost: () => {}, back: () => {} };
export const onConnection = (lostHook, backHook) => Object.assign(hooks, { lost: lostHook, back: backHook });

// The task on show has said something.
export function heard() {
  lastHeard = performance.now();
}

export function startWatching() {
  if (timer !== null) return;
  heard();
  timer = setInterval(watchTask, EVERY_MS);
}

export function stopWatching() {
  if (lost) return;
  clearInterval(timer);
  timer = null;
}

async function watchTask() {
  if (lost || performance.now() - lastHeard > QUIET_MS) await check();
  if (!lost && performance.now() - lastHeard > SILENT_MS) {
    heard();
    hooks.back(false); // the server is there, only the stream is not: a laptop that slept, say
  }
}

// After anything that looks like a broken connection: look at once.
export function suspect() {
  startWatching();
  return check();
}

// Whether the server answers. What follows from it is done by the hooks.
export async function check() {
  let answer = null;
  try {
    const response = await fetch("/alive", { cache: "no-store", signal: AbortSignal.timeout(4000) });
    answer = response.ok ? await response.json() : null;
  } catch { answer = null; }
  if (!answer) {
    const before = lost;
    lost = true;
    if (!before) hooks.lost();
    return false;
  }
  const restarted = boot !== null && boot !== answer.boot;
  const returned = lost;
  boot = answer.boot;
  lost = false;
  if (returned || restarted) hooks.back(restarted);
  return true;
}
