// One breast: two films, the lesion's columns, its reading, and what the doctor thinks of it.
import { Film } from "./film.js";

const main = document.getElementById("main");
const status = document.getElementById("status");
const reading = document.getElementById("reading");
const earlier = document.getElementById("earlier");
const read = document.getElementById("read");
const level = document.getElementById("level");
const contrast = document.getElementById("contrast");
const films = [...document.querySelectorAll(".film")]
  .filter((panel) => panel.querySelector("canvas"))
  .map((panel) => new Film(panel, (light) => changed(light), () => toggleMap()));

const mapped = document.getElementById("mapped");
const opacity = document.getElementById("opacity");

function showMap() {
  for (const film of films) {
    film.hasMap = mapped.checked;
    film.opacity = opacity.value / 100;
    opacity.setAttribute("aria-valuetext", `${opacity.value} %`);
    film.draw();
  }
}

function toggleMap() {
  mapped.checked = !mapped.checked;
  showMap();
  say(status, mapped.checked ? "Map shown: a hint, no evidence." : "Map hidden.");
}

// The maps of the reading that is shown, on the films that were read.
function takeMaps(body) {
  const found = [...reading.querySelectorAll(".filmmap")];
  for (const film of films) film.map = null;
  for (const { dataset } of found) {
    const asked = body.films.find((film) => film.view === dataset.view);
    const film = films.find((each) => each.view === dataset.view);
    if (asked && film) film.setMap(asked.film, dataset.square.split(",").map(Number), dataset.values);
  }
  document.getElementById("maptools").hidden = !found.length;
  mapped.checked = false;
  showMap();
}

function say(element, text, isBad = false) {
  element.classList.toggle("bad", isBad);
  element.textContent = text;
}

// A reading that is no longer of what stands beside it must say so.
function stale() {
  const note = document.getElementById("stale");
  if (!note?.hidden) return;
  note.hidden = false;
  say(status, note.textContent);
}

function changed(light) {
  if (!light) return stale();
  level.value = Math.round(Math.max(0, Math.min(1, light.level)) * 1000);
  contrast.value = Math.round(Math.max(0, Math.min(1, light.contrast)) * 1000);
  relight();
}

function relight() {
  for (const film of films) {
    film.level = level.value / 1000;
    film.contrast = contrast.value / 1000;
    film.draw();
  }
}

async function post(address, body) {
  let answer;
  try {
    answer = await fetch(`../${address}`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
    });
  } catch {
    throw new Error("The reader does not answer; is it still running?");
  }
  const text = await answer.text();
  if (!answer.ok) throw new Error(text);
  return text;
}

function columns() {
  const values = {};
  for (const field of document.querySelectorAll("#lesion [data-column]")) {
    const value = field.tagName === "FIELDSET"
      ? [...field.querySelectorAll(":checked")].map((each) => each.value).join("-")
      : field.value.trim();
    if (value) values[field.dataset.column] = value;
  }
  return values;
}

function lesion() {
  const needsBox = main.dataset.needsBox === "yes";
  const shown = films.filter((film) => film.id && (film.box || !needsBox));
  if (!shown.length) throw new Error("Mark the lesion on at least one film.");
  return {
    study: main.dataset.study,
    films: shown.map((film) => ({
      film: film.id,
      view: film.view,
      box: needsBox ? [film.box.x, film.box.y, film.box.width, film.box.height] : null,
    })),
    columns: columns(),
  };
}

// While a lesion is read, its mark may be moved.
function isStill(body) {
  try {
    return JSON.stringify(lesion()) === JSON.stringify(body);
  } catch {
    return false;
  }
}

async function ask(event) {
  event.preventDefault();
  if (read.getAttribute("aria-disabled") === "true") return;
  try {
    const body = lesion();
    read.setAttribute("aria-disabled", "true");
    say(status, "Reading.");
    reading.innerHTML = await post("readings", body);
    takeMaps(body);
    document.getElementById("reading-title").focus();
    say(status, "Read.");
    if (!isStill(body)) stale();
    for (const image of reading.querySelectorAll("img.heat")) {
      document.getElementById("heat").addEventListener("change", (change) => image.classList.toggle("away", !change.target.checked));
    }
    document.getElementById("opinion").addEventListener("submit", keepOpinion);
    await showEarlier();
  } catch (error) {
    say(status, error.message, true);
  } finally {
    read.removeAttribute("aria-disabled");
  }
}

async function keepOpinion(event) {
  event.preventDefault();
  const form = event.target;
  const kept = document.getElementById("kept");
  const given = new FormData(form);
  try {
    const body = { reading: form.closest("[data-reading]").dataset.reading, verdict: given.get("verdict"), why: given.get("why") };
    say(kept, await post("opinions", body));
    await showEarlier();
  } catch (error) {
    say(kept, error.message, true);
  }
}

async function keepPathology(event) {
  const form = event.target.closest(".pathology");
  if (!form) return;
  event.preventDefault();
  const pathology = new FormData(form).get("pathology");
  if (!pathology) {
    say(status, "Choose benign or malignant.", true);
    return;
  }
  try {
    say(status, await post("pathologies", { reading: form.dataset.reading, pathology }));
  } catch (error) {
    say(status, error.message, true);
  }
}

async function showEarlier() {
  const answer = await fetch(`../studies/${main.dataset.study}/readings`);
  if (answer.ok) earlier.innerHTML = await answer.text();
}

for (const button of document.querySelectorAll("[data-mode]:not(.stage)")) {
  button.addEventListener("click", () => {
    for (const each of document.querySelectorAll(".switch [data-mode]")) {
      each.setAttribute("aria-pressed", String(each === button));
    }
    for (const film of films) {
      film.mode = button.dataset.mode;
      film.stage.dataset.mode = button.dataset.mode;
    }
  });
}
for (const fieldset of document.querySelectorAll("fieldset[data-column]")) {
  fieldset.addEventListener("change", () => {
    const values = [...fieldset.querySelectorAll(":checked")].map((each) => each.parentElement.textContent.trim());
    document.querySelector(`[data-of="${fieldset.dataset.column}"]`).textContent = values.join(", ") || "not recorded";
  });
}
mapped.addEventListener("change", showMap);
opacity.addEventListener("input", showMap);
level.addEventListener("input", relight);
contrast.addEventListener("input", relight);
document.getElementById("reset").addEventListener("click", () => {
  [level.value, contrast.value] = [500, 500];
  relight();
  for (const film of films) if (film.columns) film.fit();
});
document.getElementById("lesion").addEventListener("submit", ask);
document.getElementById("lesion").addEventListener("change", stale);
earlier.addEventListener("submit", keepPathology);
