// Pairs of videos and who prefers which (signer study). Reads the element "data": study, question, trials, videos.
"use strict";

const DATA = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const sides = [$("left"), $("right")];

let rater = "", order = [], at = 0, votes = {}, since = 0, seen = new Set();

// ---- A rater's own order and sides ----------------------------------------------------------------------------------

// Numbers in [0, 1) that the study and the rater's name alone decide (FNV-1a into Marsaglia's xorshift), so that a
// page that is opened again goes on in the same order.
function generator(text) {
  let state = 2166136261;
  for (const byte of new TextEncoder().encode(text)) state = Math.imul(state ^ byte, 16777619);
  state = state || 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}

function arranged(name) {
  const next = generator(`${DATA.study} ${name}`);
  for (let i = 0; i < 16; i++) next();
  const trials = DATA.trials.map((t) => (next() < 0.5 ? t : { ...t, left: t.right, right: t.left }));
  for (let i = trials.length - 1; i > 0; i--) {
    const j = Math.floor(next() * (i + 1));
    [trials[i], trials[j]] = [trials[j], trials[i]];
  }
  return trials;
}

// ---- What is kept in this browser -----------------------------------------------------------------------------------

const place = (name) => `signer-study ${DATA.study} ${name}`;

function remembered(name) {
  try {
    const found = JSON.parse(localStorage.getItem(place(name)));
    const known = new Set(DATA.trials.map((trial) => trial.name));
    return Object.fromEntries(Object.entries(found || {}).filter(([trial]) => known.has(trial)));
  } catch {
    return {};
  }
}

function remember() {
  let kept = "kept in this browser";
  try {
    localStorage.setItem(place(rater), JSON.stringify(votes));
  } catch {
    kept = "this browser keeps nothing: save them before you close this page";
  }
  const count = Object.keys(votes).length;
  $("kept").textContent = `${count} of ${order.length} votes, ${kept}`;
  $("keep").hidden = count === 0;
  $("end").hidden = count < order.length;
}

function save() {
  const made = { study: DATA.study, rater, votes: order.map((trial) => votes[trial.name]).filter(Boolean) };
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify(made, null, 1)], { type: "application/json" }));
  link.download = `votes-${rater.replace(/[^\p{L}\p{N}]+/gu, "-")}-${DATA.study}.json`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// ---- A pair ---------------------------------------------------------------------------------------------------------

function play() {
  for (const side of sides) {
    side.currentTime = 0;
    side.playbackRate = Number($("speed").value);
    side.play().catch(() => {}); // before the reader's first click a browser may not let it
  }
}

// Nobody votes on what has not been shown to its end, on both sides.
function allow() {
  const ready = seen.size === sides.length;
  for (const button of document.querySelectorAll(".votes button")) button.disabled = !ready;
  $("wait").hidden = ready;
}

function show(index) {
  at = Math.min(Math.max(index, 0), order.length - 1);
  const trial = order[at];
  $("trouble").hidden = true;
  [sides[0].src, sides[1].src] = [DATA.videos[trial.left], DATA.videos[trial.right]];
  for (const button of document.querySelectorAll(".votes button")) {
    button.classList.toggle("taken", votes[trial.name]?.choice === button.dataset.choice);
  }
  $("place").textContent = `pair ${at + 1} of ${order.length}`;
  $("before").disabled = at === 0;
  $("after").disabled = at === order.length - 1 || !votes[trial.name];
  since = performance.now();
  seen = new Set();
  allow();
  play();
}

const tenths = (seconds) => Math.round(seconds * 10) / 10;

function vote(choice) {
  if (seen.size < sides.length) return;
  const { name, left, right } = order[at];
  const seconds = tenths((performance.now() - since) / 1000);
  const clip = tenths(Math.max(...sides.map((side) => side.duration || 0)));
  votes[name] = { trial: name, left, right, choice, seconds, clip };
  remember();
  show(at + 1);
}

function begin() {
  rater = $("rater").value.trim();
  if (!rater) return;
  order = arranged(rater);
  votes = remembered(rater);
  $("start").hidden = true;
  $("trial").hidden = false;
  remember();
  const open = order.findIndex((trial) => !votes[trial.name]);
  show(open < 0 ? order.length - 1 : open);
}

// ---- What the reader does -------------------------------------------------------------------------------------------

$("question").textContent = document.title = DATA.question;
$("study").textContent = DATA.study;
for (const count of document.querySelectorAll(".count")) count.textContent = DATA.trials.length;
$("rater").oninput = () => ($("begin").disabled = !$("rater").value.trim());
$("rater").onkeydown = (event) => event.key === "Enter" && begin();
$("begin").onclick = begin;
$("replay").onclick = play;
$("speed").onchange = play;
$("before").onclick = () => show(at - 1);
$("after").onclick = () => show(at + 1);
document.querySelector(".save").onclick = save;
for (const button of document.querySelectorAll(".votes button")) button.onclick = () => vote(button.dataset.choice);
for (const side of sides) {
  side.onended = () => {
    seen.add(side);
    allow();
    if ($("again").checked && sides.every((one) => one.ended)) play();
  };
  side.onerror = () => {
    $("trouble").hidden = false;
    $("after").disabled = at === order.length - 1; // a pair that cannot be shown is passed over
  };
}
// A button that the mouse pressed does not keep the space bar; one that the keyboard reached has it.
document.addEventListener("click", (event) => event.detail && event.target.matches("button") && event.target.blur());
document.addEventListener("keydown", (event) => {
  if ($("trial").hidden || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.matches("select, input[type=text]")) return;
  if (event.key === " " && event.target.matches("button, input[type=checkbox]")) return;
  const act = { 1: () => vote("left"), 2: () => vote("same"), 3: () => vote("right"), " ": play }[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});
