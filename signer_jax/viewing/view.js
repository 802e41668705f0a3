// Plays poses beside each other (signer view). Reads the element "data": strokes, view, clips.
"use strict";

const MISSING = -32768; // as viewing/poses.py writes it
const DATA = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);

// ---- The clips, a panel each ----------------------------------------------------------------------------------------

const clips = DATA.clips.map((clip, i) => {
  const raw = atob(clip.values);
  const bytes = new Uint8Array(raw.length);
  for (let k = 0; k < raw.length; k++) bytes[k] = raw.charCodeAt(k);
  const column = new Map(clip.joints.map((joint, k) => [joint, k]));
  const panel = document.querySelectorAll(".panel")[i];
  return {
    ...clip,
    values: new Int16Array(bytes.buffer), // [frames, joints, 2]
    strokes: DATA.strokes
      .filter(([a, b]) => column.has(a) && column.has(b))
      .map(([a, b, colour, half]) => [column.get(a), column.get(b), `rgb(${colour})`, half]),
    canvas: panel.querySelector("canvas"),
    counter: panel.querySelector(".counter"),
    drawn: "",
  };
});
const duration = Math.max(...clips.map((clip) => clip.frames / clip.fps));
const finest = Math.max(...clips.map((clip) => clip.fps));

function frameAt(clip, time) {
  return Math.min(Math.floor(time * clip.fps + 1e-6), clip.frames - 1);
}

function draw(clip, frame) {
  const size = Math.max(1, Math.round(clip.canvas.clientWidth * (window.devicePixelRatio || 1)));
  const wanted = [frame, size, $("mirror").checked, $("whole").checked].join();
  if (clip.drawn === wanted) return;
  clip.drawn = wanted;
  if (clip.canvas.width !== size) clip.canvas.width = clip.canvas.height = size;
  const context = clip.canvas.getContext("2d");
  const [left, top, side] = $("whole").checked ? clip.box : DATA.view; // shoulder widths
  const scale = size / side;
  const turned = $("mirror").checked;
  const place = (joint) => {
    const at = (frame * clip.joints.length + joint) * 2;
    if (clip.values[at] === MISSING) return null;
    const x = (clip.values[at] / DATA.units - left) * scale;
    return [turned ? size - x : x, (clip.values[at + 1] / DATA.units - top) * scale];
  };
  context.fillStyle = "#000";
  context.fillRect(0, 0, size, size);
  context.lineCap = "round";
  for (const [i, j, colour, half] of clip.strokes) {
    const a = place(i), b = place(j);
    if (!a || !b) continue;
    context.beginPath();
    if (i === j) {
      context.fillStyle = colour;
      context.arc(a[0], a[1], Math.max(half * scale, 0.5), 0, 2 * Math.PI);
      context.fill();
    } else {
      context.strokeStyle = colour;
      context.lineWidth = Math.max(2 * half * scale, 1);
      context.moveTo(a[0], a[1]);
      context.lineTo(b[0], b[1]);
      context.stroke();
    }
  }
}

// ---- Time -----------------------------------------------------------------------------------------------------------

let time = 0, playing = false, last = null;

function show() {
  $("time").value = time;
  $("seconds").textContent = `${(DATA.start + time).toFixed(2)} s of ${(DATA.start + duration).toFixed(2)} s`;
  $("play").textContent = playing ? "Pause" : "Play";
  for (const clip of clips) {
    const frame = frameAt(clip, time);
    draw(clip, frame);
    const over = time >= clip.frames / clip.fps && clips.length > 1 ? ", ended" : "";
    clip.counter.textContent = `frame ${clip.first + frame + 1} of ${clip.total}${over}`;
  }
}

function seek(to) {
  time = Math.min(Math.max(to, 0), duration);
  show();
}

function step(count) {
  playing = false;
  seek(Math.min((Math.floor(time * finest + 1e-6) + count) / finest, duration - 1 / finest));
}

function play(on) {
  if (on && time >= duration) time = 0;
  playing = on;
  last = null;
  show();
}

function tick(now) {
  if (playing) {
    const passed = last === null ? 0 : Math.min((now - last) / 1000, 0.25); // a tab that slept goes on where it was
    last = now;
    time += passed * Number($("speed").value);
    if (time >= duration) {
      if ($("loop").checked) time %= duration;
      else [time, playing] = [duration, false];
    }
  }
  show();
  requestAnimationFrame(tick);
}

// ---- What the reader does -------------------------------------------------------------------------------------------

$("time").max = duration;
$("play").onclick = () => play(!playing);
$("back").onclick = () => step(-1);
$("next").onclick = () => step(1);
$("time").oninput = () => seek(Number($("time").value));
// A button that the mouse pressed does not keep the space bar; one that the keyboard reached has it.
document.addEventListener("click", (event) => event.detail && event.target.matches("button") && event.target.blur());
document.addEventListener("keydown", (event) => {
  if (event.target.matches("select") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === " " && event.target.matches("button, input[type=checkbox]")) return;
  const act = { " ": () => play(!playing), ArrowLeft: () => step(-1), ArrowRight: () => step(1), Home: () => seek(0),
                m: () => $("mirror").click(), w: () => $("whole").click() }[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});

// An address that ends in #t=1.5&mirror=1&whole=1&speed=0.5&loop=0&play=1 opens the page so.
function asAddressed() {
  const asked = new URLSearchParams(location.hash.slice(1));
  for (const name of ["mirror", "whole", "loop"]) if (asked.has(name)) $(name).checked = asked.get(name) === "1";
  if ([...$("speed").options].some((option) => option.value === asked.get("speed"))) $("speed").value = asked.get("speed");
  const at = Number(asked.get("t") ?? DATA.start) - DATA.start;
  seek(Number.isFinite(at) ? at : 0);
  if (asked.get("play") === "1") play(true);
}

window.addEventListener("hashchange", asAddressed);
asAddressed();
requestAnimationFrame(tick);
