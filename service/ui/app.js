/**
 * The page at `/`: teach a head, try it, look after it. Knows elements and events; `api.js` knows the service.
 * What a person or the service wrote is only ever set as text, never as HTML.
 */
import { call, everyRow, exportPath, headPath, predictCommand } from "./api.js";
import { droppedFiles } from "./drop.js";
import { $, announce, discard, setImage, stamp } from "./elements.js";
import { forgetKey, key } from "./key.js";
import { counted, lasted, likelihood, listed, percent, sized } from "./words.js";

const SUFFIXES = { head: ".safetensors", onnx: ".onnx", fused: "-fused.onnx" };
const BARS = 5; // probabilities of one prediction
const fileOf = new WeakMap(); // tile -> the File it shows
const drafts = new Map(); // head name, "" for a new one -> its columns, so that looking elsewhere loses no image
let heads = [];
let current = null; // the description of the head that is shown; null while a new one is made
let tried = []; // the files whose predictions are shown
let visits = 0; // counts what was opened, so that a late answer does not replace a newer one

// Elements and errors

const hashOf = (name) => `#/${encodeURIComponent(name)}`;

/** Show an error in the words of the service, with the inputs that it names. */
function showError(box, { message, items = [] }) {
  const named = ({ id, index, label }) => `${id ?? `Input ${index}`}${label ? ` (${label})` : ""}`;
  const problems = items.map((item) => stamp("problem", { b: named(item), span: item.message }));
  box.querySelector("p").textContent = message;
  box.querySelector("ul").replaceChildren(...problems);
  box.hidden = false;
}

/** Do what an event asks for; whatever goes wrong is shown in `box`. */
async function attempt(box, work) {
  box.hidden = true;
  await work().catch((error) => showError(box, error));
}

async function confirmed(question, answer) {
  const dialog = $("confirm");
  $("confirm-text").textContent = question;
  $("confirm-yes").textContent = answer;
  dialog.returnValue = "";
  dialog.showModal();
  await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
  return dialog.returnValue === "yes";
}

// Files

/** Let files come in at an element: dropped on it, or chosen with its file input. */
function takeFiles(zone, box, onFiles) {
  const input = zone.querySelector("input[type=file]");
  input.addEventListener("change", () => {
    const files = [...input.files];
    input.value = ""; // The same file can be chosen again.
    onFiles(files);
  });
  zone.addEventListener("dragover", () => zone.classList.add("over"));
  zone.addEventListener("dragleave", () => zone.classList.remove("over"));
  zone.addEventListener("drop", (event) => {
    zone.classList.remove("over");
    if (!input.matches(":disabled")) attempt(box, async () => onFiles(await droppedFiles(event.dataTransfer)));
  });
}

// Teach

/** A column for a class; one that the head knows already, with `known` examples, keeps its name. */
function addColumn(label = "", known = 0) {
  const column = stamp("column");
  const input = column.querySelector(".label");
  input.value = label;
  input.readOnly = known > 0;
  column.dataset.known = known;
  column.querySelector(".remove-class").hidden = known > 0;
  column.querySelector(".remove-class").addEventListener("click", () => {
    discard([column]);
    countTiles();
    $("add-class").focus();
  });
  takeFiles(column, $("teach-error"), (files) => addTiles(column, files));
  $("columns").append(column);
  countTiles();
  return input;
}

function addTiles(column, files) {
  for (const file of files) {
    const tile = stamp("tile");
    fileOf.set(tile, file);
    setImage(tile.querySelector("img"), file);
    tile.querySelector("button").setAttribute("aria-label", `Remove ${file.name}`);
    tile.querySelector("button").addEventListener("click", () => {
      (tile.nextElementSibling ?? column).querySelector("button, input[type=file]").focus();
      discard([tile]);
      countTiles();
    });
    column.querySelector(".tiles").append(tile);
  }
  countTiles();
}

function countTiles() {
  for (const column of $("columns").children) {
    const images = counted(column.querySelectorAll(".tile").length, "image");
    const known = Number(column.dataset.known);
    column.querySelector(".count").textContent = known ? `${images}, ${known} taught before` : images;
  }
  const files = [...$("columns").querySelectorAll(".tile")].map((tile) => fileOf.get(tile));
  const bytes = files.reduce((sum, file) => sum + file.size, 0);
  $("pending").textContent = files.length ? `${counted(files.length, "image")}, ${sized(bytes)}` : "";
}

/** Put the form where it belongs: one form makes a new head and adds to one that is there. */
function showForm() {
  $(current ? "add-slot" : "new-slot").append($("teach"));
  $("name-field").hidden = $("name").disabled = current !== null;
  $("teach").hidden = false;
  $("teach-error").hidden = true;
  const kept = drafts.get(current?.head ?? "") ?? [];
  $("columns").replaceChildren(...kept);
  for (const { label, examples } of current?.classes ?? []) {
    const column = kept.find((each) => each.querySelector(".label").value === label);
    if (column) column.dataset.known = examples;
    else addColumn(label, examples);
  }
  while (!current && $("columns").children.length < 2) addColumn();
  countTiles();
}

/** What is to be taught as a form whose field names are the labels, and its tiles in the same order. */
function collect() {
  const form = new FormData();
  const tiles = [];
  for (const column of $("columns").children) {
    const input = column.querySelector(".label");
    const own = [...column.querySelectorAll(".tile")];
    const isEmpty = input.value && !own.length && !input.readOnly;
    input.setCustomValidity(isEmpty ? "Add images of this class, or remove it." : "");
    if (own.length && !input.value) input.setCustomValidity("Name the class of these images.");
    for (const tile of own) form.append(input.value, fileOf.get(tile));
    tiles.push(...own);
  }
  return { form, tiles };
}

async function teach() {
  const { form, tiles } = collect();
  if (!$("teach").reportValidity()) return;
  const [draft, name] = [current?.head ?? "", current?.head ?? $("name").value];
  const [method, path] = current ? ["POST", `${headPath(name)}/examples`] : ["PUT", headPath(name)];
  for (const tile of tiles) tile.classList.remove("bad");
  try {
    showProgress(tiles, 0); // At once, so that a second click teaches nothing.
    if (!current && !(await mayReplace(name))) return;
    const answer = await call(method, path, { body: form, onProgress: (share) => showProgress(tiles, share) });
    discard(tiles.map((tile) => tile.closest(".column")));
    drafts.delete(draft);
    $("name").value = "";
    await show(name, answer);
  } catch (error) {
    for (const item of error.items ?? []) markTile(tiles[item.index], item);
    throw error;
  } finally {
    $("teach-fields").disabled = false;
    $("teach-busy").hidden = true;
    // The button lost the focus while it was disabled: to nothing, or to a dialog that is closed.
    if (document.activeElement.matches("body, dialog *")) $("teach-button").focus();
  }
}

async function mayReplace(name) {
  await loadHeads();
  const there = heads.find((head) => head.head === name);
  const examples = counted(there?.examples ?? 0, "example");
  return !there || confirmed(`There is a head ${name} already. Replace its ${examples} with these images?`, "Replace");
}

function showProgress(tiles, share) {
  $("teach-fields").disabled = true;
  $("teach-busy").hidden = false;
  $("teach-stage").textContent = `${share < 1 ? "Sending" : "Learning from"} ${counted(tiles.length, "image")}`;
  if (share < 1) $("teach-progress").value = share;
  else $("teach-progress").removeAttribute("value");
}

/** Mark the tile that an error is about. What is inside an archive has an index, but no tile of its own. */
function markTile(tile, item) {
  const file = fileOf.get(tile);
  item.id ??= file?.name;
  if (!file || file.name !== item.id) return;
  tile.classList.add("bad");
  tile.querySelector("img").title = `${item.id}: ${item.message}`;
}

// Try

async function predict(files) {
  const name = current.head;
  tried = files;
  $("command").textContent = predictCommand(name, files.length ? files.map((file) => file.name) : ["photo.jpg"]);
  $("copy").textContent = "Copy";
  $("try-progress").hidden = files.length === 0;
  discard([...$("predictions").children]);
  const body = new FormData();
  for (const file of files) body.append("image", file);
  const path = `${headPath(name)}/predict?on_error=skip&top_k=${BARS}`;
  try {
    if (files.length) showPredictions(files, await call("POST", path, { body }));
  } finally {
    if (files === tried) $("try-progress").hidden = true;
  }
}

function showPredictions(files, { head, version, predictions, rejected }) {
  if (files !== tried) return; // Other images, or another head, came in between.
  $("predictions").append(...predictions.map((item) => predictionCard(item, files[item.index])));
  announce(`${counted(predictions.length, "prediction")} by ${head}, version ${version}`);
  if (rejected.length) showError($("try-error"), { message: "Not every image could be used.", items: rejected });
}

/** What is said of an image: its class; of a multi-label head, which gives `labels`, all of its classes. */
function verdict({ label, labels, unknown }) {
  if (unknown) return "Unknown";
  if (!labels) return label;
  return labels.length ? listed(labels) : "No class";
}

function predictionCard(item, file) {
  const { id, label, labels, probability, probabilities, typicality, unknown } = item;
  const card = stamp("prediction", {
    ".file": id,
    ".verdict": verdict(item),
    ".sure": unknown || labels ? "" : likelihood(probability),
    ".note": unknown ? `Unlike every class of this head. The nearest is ${label}.` : "",
    ".typicality": `Typicality ${typicality.toFixed(2)}`,
  });
  card.classList.toggle("unknown", unknown);
  if (file?.name === id) setImage(card.querySelector("img"), file);
  for (const each of probabilities) {
    const bar = stamp("bar", { ".bar-label": each.label, ".bar-value": likelihood(each.probability) });
    bar.querySelector(".fill").setAttribute("width", `${100 * each.probability}%`);
    card.querySelector(".bars").append(bar);
  }
  return card;
}

async function copyCommand() {
  getSelection().selectAllChildren($("command"));
  // The clipboard is there on https and on this machine only; elsewhere the older call does it.
  if (navigator.clipboard) await navigator.clipboard.writeText($("command").textContent);
  else document.execCommand("copy");
  announce(($("copy").textContent = "Copied"));
}

// Heads

/** Names of the classes. A head that was imported has no examples, so no classes of its own. */
const classesOf = ({ classes, published_classes: published }) => (classes.length ? classes.map(({ label }) => label) : published);

async function loadHeads() {
  heads = await everyRow("/v1/heads", "heads");
  const links = heads.map((head) => {
    const version = head.published_version ? `version ${head.published_version}` : "not published";
    const classes = listed(classesOf(head));
    const link = stamp("head-link", { b: head.head, span: `${classes}; ${counted(head.examples, "example")}; ${version}` });
    link.firstElementChild.href = hashOf(head.head);
    return link;
  });
  $("heads").replaceChildren(...links);
}

/** Show a head, or with an empty name the form for a new one; `taught` is the answer that led here. */
async function show(name, taught = null) {
  const visit = ++visits;
  const parts = name ? [call("GET", headPath(name)), everyRow(`${headPath(name)}/versions`, "versions")] : [null, []];
  const [description, versions] = await Promise.all([...parts, loadHeads()]);
  if (visit !== visits) return; // The person went elsewhere in the meantime.
  const before = current?.head ?? "";
  if (location.hash !== hashOf(name)) history.pushState(null, "", hashOf(name));
  drafts.set(before, [...$("columns").children]);
  current = description;
  document.title = name ? `${name} – Headstart` : "Headstart";
  $("new-view").hidden = current !== null;
  $("head-view").hidden = current === null;
  for (const link of document.querySelectorAll("#heads a, #new-link")) {
    link.ariaCurrent = link.getAttribute("href") === hashOf(name) ? "page" : null;
  }
  showForm();
  if (current) showHead(versions, taught);
  if (visit > 1 && (taught || name !== before)) $(name ? "head-title" : "new-title").focus();
  if (current) await attempt($("try-error"), () => predict(name === before ? tried : []));
}

function showHead(versions, taught) {
  const { head, examples, extractor, published_version: published, up_to_date: upToDate } = current;
  const version = published ? `Version ${published} is published.` : "No version is published.";
  const stale = published && !upToDate ? " The examples are not those that it was trained from." : "";
  const known = classesOf(current).length;
  const facts = `${counted(known, "class", "classes")}, ${counted(examples, "example")}, on ${extractor.name}.`;
  $("head-title").textContent = head;
  $("head-facts").textContent = `${facts} ${version}${stale}`;
  $("head-error").hidden = true;
  $("add").open = false;
  $("outcome").hidden = taught === null;
  if (taught) announce(($("outcome").textContent = outcome(taught)));
  showReport(current);
  $("versions").replaceChildren(...versions.map(versionRow));
  $("export").hidden = !published;
  for (const link of $("export").querySelectorAll("a")) link.href = exportPath(head, link.dataset.format);
}

function outcome({ version, examples, timings_ms: timings }) {
  const twice = examples.duplicates ? `, ${examples.duplicates} were there already` : "";
  const steps = ["decode", "embed", "fit", "store"].map((step) => `${step} ${lasted(timings[step])}`);
  const images = counted(examples.added, "new example");
  return `Version ${version} learned from ${images}${twice} in ${lasted(timings.total)} (${steps.join(", ")}).`;
}

function showReport({ report, warnings }) {
  $("report").hidden = !report;
  $("no-report").hidden = Boolean(report);
  $("warnings").replaceChildren(...warnings.map(({ message }) => stamp("warning", { span: message })));
  if (!report) return;
  const { accuracy, accuracy_low: low, accuracy_high: high } = report;
  const known = accuracy != null;
  $("accuracy").textContent = known ? percent(accuracy) : "Not known";
  $("interval").textContent = known
    ? `accuracy on examples held out; 95% interval from ${percent(low)} to ${percent(high)}`
    : "No example could be held out to test on.";
  const { accuracy: expected } = report.forecast ?? {};
  $("forecast").textContent = expected > accuracy ? `With twice the examples, about ${percent(expected)} is to be expected.` : "";
  $("range").classList.toggle("unseen", !known);
  $("range-band").setAttribute("x", `${100 * low}%`);
  $("range-band").setAttribute("width", `${100 * (high - low)}%`);
  $("range-dot").setAttribute("cx", `${100 * accuracy}%`);
  const rows = report.per_class.map(({ label, examples, precision, recall }) =>
    stamp("class-row", { span: label, ".examples": examples, ".precision": percent(precision), ".recall": percent(recall) }));
  $("per-class").replaceChildren(...rows);
}

function versionRow({ version, created_at: created, classes, examples, accuracy, published }) {
  const time = new Date(created).toLocaleString("en", { dateStyle: "medium", timeStyle: "short" });
  const texts = { th: version, time, ".classes": listed(classes), ".examples": examples, ".accuracy": percent(accuracy) };
  const row = stamp("version-row", texts);
  const state = stamp(published ? "published" : "publish");
  state.setAttribute("aria-label", published ? "published" : `Publish version ${version}`);
  if (!published) state.addEventListener("click", () => attempt($("head-error"), () => publish(version)));
  row.querySelector(".state").append(state);
  return row;
}

async function publish(version) {
  const { head } = current;
  await call("POST", `${headPath(head)}/versions/${version}/publish`);
  await show(head);
  announce(`Version ${version} of ${head} is published`);
  $("versions-title").focus();
}

async function remove() {
  const { head, examples } = current;
  const question = `Delete ${head}, its ${counted(examples, "example")} and all its versions? This cannot be undone.`;
  if (!(await confirmed(question, "Delete"))) return;
  await call("DELETE", headPath(head));
  discard([...$("columns").children]);
  await show("");
  announce(`${head} is deleted`);
}

/** A link cannot carry a key, so that with one the file is fetched, and then saved. */
async function save(link) {
  const file = await call("GET", link.getAttribute("href"), { responseType: "blob" });
  const saved = document.createElement("a");
  saved.href = URL.createObjectURL(file);
  saved.download = `${current.head}-v${current.published_version}${SUFFIXES[link.dataset.format]}`;
  saved.click();
  URL.revokeObjectURL(saved.href);
}

async function showExtractors() {
  const { extractors } = await call("GET", "/v1/extractors");
  const about = extractors.map(({ name, dim, precision, provider }) => `${name}, ${dim} dimensions, ${precision}, ${provider ?? "not loaded"}`);
  $("footer").textContent = `Extractor: ${about.join("; ")}`;
}

const open = () => attempt($("failure"), async () => show(decodeURIComponent(location.hash.slice(2))));

$("teach").addEventListener("submit", (event) => {
  event.preventDefault();
  attempt($("teach-error"), teach);
});
$("add-class").addEventListener("click", () => addColumn().focus());
$("copy").addEventListener("click", () => attempt($("try-error"), copyCommand));
for (const link of $("export").querySelectorAll("a")) {
  link.addEventListener("click", (event) => {
    if (!key()) return;
    event.preventDefault();
    attempt($("head-error"), () => save(link));
  });
}
$("key-cancel").addEventListener("click", () => $("key-dialog").close());
$("forget-key").addEventListener("click", () => {
  forgetKey();
  location.reload();
});
$("delete").addEventListener("click", () => attempt($("head-error"), remove));
takeFiles($("try-drop"), $("try-error"), (files) => attempt($("try-error"), () => predict(files)));
// A file that misses its target must not make the browser leave the page.
for (const type of ["dragover", "drop"]) addEventListener(type, (event) => event.preventDefault());
addEventListener("hashchange", open);
open();
attempt($("failure"), showExtractors);
