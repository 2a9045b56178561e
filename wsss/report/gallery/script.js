"use strict";
// Names of images and classes may hold markup, so they are only ever set as text.

const data = JSON.parse(document.getElementById("data").textContent);
const PER_PAGE = 24;
const ALL = "";
const FINISHED = new Set(data.runs.flatMap((run) => run.columns));
const STAGES = Object.entries(data.stages).filter(([stage]) => FINISHED.has(stage));
const COLUMNS = { photo: "image", ...Object.fromEntries(STAGES), truth: "truth" };
const KIND_NAMES = Object.keys(data.kinds);
const KIND_COLOURS = [data.series[0], data.series[1], data.series[3], "#8c8c8c"];

const state = {
  query: "", label: ALL, split: ALL, sort: "name", score: "0 ", page: 0, current: -1,
  runs: new Set(data.runs.keys()), columns: new Set(Object.keys(COLUMNS)), confusion: 0,
};
let matching = [];  // the images that fit the filters, sorted

// Small helpers

const byId = (id) => document.getElementById(id);
const percent = (share) => (100 * share).toFixed(1);

function make(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (key.startsWith("--")) node.style.setProperty(key, value);
    else if (key in node) node[key] = value;
    else node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
}

function draw(tag, attributes, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

const text = (tag, content, className = "") => make(tag, { textContent: content, className });

const key = (entries) => make("ul", { className: "key" }, ...entries.map(([name, colour]) =>
  make("li", {}, make("i", { "--colour": colour }), name)));

// Filter and sort the images

function matches(image) {
  const words = state.query.toLowerCase();
  const names = [image.name, ...image.labels.map((label) => data.classes[label])];
  return (state.split === ALL || image.split === state.split)
    && (state.label === ALL || image.labels.includes(Number(state.label)))
    && names.some((name) => name.toLowerCase().includes(words));
}

const mistaken = (cell, kind) => cell.mistakes[kind + 1] / Math.max(cell.mistakes[0], 1);

function rank(image) {
  const [run, stage] = state.score.split(" ");
  const cell = image.cells[run]?.[stage];
  const kind = KIND_NAMES.indexOf(state.sort);
  if (kind >= 0) return cell?.mistakes ? -mistaken(cell, kind) : null;
  const iou = state.label === ALL ? cell?.iou : cell?.classes?.[state.label];
  return iou === undefined ? null : state.sort === "best" ? -iou : iou;
}

function find() {
  matching = data.images.filter(matches);
  if (state.sort === "name") return;
  const ranks = new Map(matching.map((image) => [image, rank(image)]));
  const last = (image) => ranks.get(image) === null;
  matching.sort((one, other) => last(one) - last(other) || ranks.get(one) - ranks.get(other));
}

// One image

function chip(label, isTrue) {
  const name = data.classes[label] ?? `label ${label}`;
  const title = isTrue ? name : `${name}: predicted by a stage, not a label of the image`;
  return make("span", { className: isTrue ? "class" : "class false", "--colour": data.colours[label], title },
    text("span", name));
}

function legend(image) {
  const cells = image.cells.filter((_, run) => state.runs.has(run)).flatMap((columns) =>
    Object.entries(columns).filter(([stage]) => state.columns.has(stage)).map(([, cell]) => cell));
  const present = new Set(cells.flatMap((cell) => Object.keys(cell.classes ?? {}).map(Number)));
  const others = [...present].filter((label) => label && !image.labels.includes(label));
  return [...image.labels.map((label) => chip(label, true)),
    ...others.sort((one, other) => one - other).map((label) => chip(label, false))];
}

function layer(src, alt, className) {
  return make("img", { loading: "lazy", decoding: "async", className, alt, src: encodeURI(src) });
}

function picture(image, column, src, covered) {
  const small = Math.max(...image.size) <= data.enlarged_px ? "sharp" : "";
  const description = `${COLUMNS[column]} of ${image.name}`;
  const box = make("div", { className: "picture" });
  box.style.aspectRatio = `${image.size[1]} / ${image.size[0]}`;
  if (!src) box.append("no true mask");
  if (!src) return box;
  box.append(layer(image.photo, column === "photo" ? description : "", small));
  if (column === "photo") return box;
  box.classList.add(covered ? "heated" : "coloured");
  const over = layer(src, description, covered ? "heat" : "labels");
  if (covered) [over.style.height, over.style.width] = covered.map((times) => `${100 * times}%`);
  box.append(over);
  return box;
}

function figure(image, column, cell, name = COLUMNS[column]) {
  const caption = make("figcaption", {}, text("span", name));
  if (cell?.iou !== undefined) {
    const classIou = cell.classes[state.label];
    const kinds = KIND_NAMES.map((kind, place) => `${kind} ${percent(mistaken(cell, place))} %`).join(", ");
    const shown = classIou === undefined ? percent(cell.iou)
      : `${percent(cell.iou)}, class ${percent(classIou)}`;
    caption.append(make("span", { title: `wrong pixels: ${kinds}` }, "IoU ", text("b", shown)));
  }
  return make("figure", {}, picture(image, column, cell?.src, cell?.covered), caption);
}

function row(figures, title) {
  const node = make("div", { className: "run", "--columns": Math.min(figures.length, 7) }, ...figures);
  if (title) node.prepend(text("h4", title));
  return node;
}

// Predictions of several runs share one row, and so does a single stage; otherwise every run has a row.
function rows(image, runs, stages) {
  const has = (column) => state.columns.has(column);
  const photo = has("photo") ? [figure(image, "photo", { src: image.photo })] : [];
  const truth = has("truth") ? [figure(image, "truth", { src: image.truth })] : [];
  const title = (run) => data.runs.length > 1 ? data.runs[run].title : "";
  if (stages.length < 2 || image.split === "val") {
    const cells = runs.flatMap((run) => stages.filter((stage) => image.cells[run][stage]).map((stage) =>
      figure(image, stage, image.cells[run][stage], [title(run), COLUMNS[stage]].filter(Boolean).join(": "))));
    return [row([...photo, ...cells, ...truth])];
  }
  const blank = () => make("div", { className: "blank" });
  const cell = (run, stage) => image.cells[run][stage] ? figure(image, stage, image.cells[run][stage]) : blank();
  return runs.map((run, number) => row(
    [...photo.map((node) => number ? blank() : node), ...stages.map((stage) => cell(run, stage)),
      ...truth.map((node) => number ? blank() : node)], title(run)));
}

function article(image, place) {
  const runs = [...state.runs].sort((one, other) => one - other).filter((run) => Object.keys(image.cells[run]).length);
  const stages = Object.keys(data.stages).filter((stage) =>
    state.columns.has(stage) && runs.some((run) => image.cells[run][stage]));
  const [height, width] = image.size;
  const title = make("h3", {}, text("span", image.name),
    text("small", `${image.split}, ${width} × ${height} px`), ...legend(image));
  const node = make("article", { tabIndex: 0, ariaLabel: image.name }, title, ...rows(image, runs, stages));
  node.addEventListener("focusin", () => { state.current = place; });
  return node;
}

// The list

function showPage() {
  const pages = Math.max(1, Math.ceil(matching.length / PER_PAGE));
  state.page = Math.min(Math.max(state.page, 0), pages - 1);
  const first = state.page * PER_PAGE;
  const shown = matching.slice(first, first + PER_PAGE);
  byId("list").replaceChildren(...shown.map((image, number) => article(image, first + number)));
  if (!shown.length) byId("list").append(text("p", "No image fits these filters. Esc shows all again.", "none"));
  const range = shown.length ? `, ${first + 1}–${first + shown.length} on this page` : "";
  byId("count").textContent = `${matching.length} of ${data.images.length} images${range}`;
  byId("previous").disabled = state.page === 0;
  byId("next").disabled = state.page === pages - 1;
}

function update() {
  state.page = 0;
  state.current = -1;
  find();
  showPage();
  if (!byId("overview").hidden) showRuns();
}

function turn(by) {
  const before = state.page;
  state.page += by;
  showPage();
  if (state.page === before) return;
  state.current = -1;
  byId("images").scrollIntoView();
}

function goTo(place) {
  if (place < 0 || place >= matching.length) return;
  if (Math.floor(place / PER_PAGE) !== state.page) {
    state.page = Math.floor(place / PER_PAGE);
    showPage();
  }
  const node = byId("list").children[place - state.page * PER_PAGE];
  node.focus({ preventScroll: true });
  node.scrollIntoView({ block: "start" });
}

const step = (by) => goTo(state.current < 0 ? state.page * PER_PAGE : state.current + by);

// Runs

function table(heads, lines) {
  const isNumber = heads.map((_, place) => lines.every((line) => /^[\d.]*( at [\d.]+)?$/.test(line[place])));
  const cells = (line, tag) => make("tr", {}, ...line.map((cell, place) =>
    cell instanceof Node ? make("td", {}, cell) : text(tag, cell, isNumber[place] ? "number" : "")));
  return make("div", { className: "scroll" }, make("table", {},
    make("thead", {}, cells(heads, "th")), make("tbody", {}, ...lines.map((line) => cells(line, "td")))));
}

const runsShown = () => data.runs.filter((_, number) => state.runs.has(number));
const scoresShown = () => runsShown().flatMap((run) => run.scores.map((score) => ({ run, ...score })));

function scoreTable() {
  const rows = scoresShown().map(({ run, stage, split, images, miou, threshold, best }) => [
    run.title, stage, `${split} (${images})`, percent(miou), threshold ?? "",
    best ? `${percent(best.miou)} at ${best.threshold}` : ""]);
  return table(["run", "stage", "split (images)", "mIoU %", "threshold", "oracle mIoU %"], rows);
}

function curveChart() {
  const scores = scoresShown().filter((score) => score.curve);
  if (!scores.length) return text("p", "None of the runs has a threshold curve.");
  const ticks = Math.max(1, Math.ceil(10 * Math.max(...scores.flatMap((score) => score.curve.miou))));
  const top = ticks / 10;
  const x = (threshold) => 44 + 560 * threshold;
  const y = (miou) => 262 - 246 * miou / top;
  const chart = draw("svg", { class: "chart", viewBox: "0 0 620 306", role: "img",
    "aria-label": "mIoU against the background threshold" });
  const label = (content, place) => chart.append(draw("text", { "text-anchor": "middle", ...place }, content));
  for (let tick = 0; tick <= 10; tick += 2) label(`${tick / 10}`, { x: x(tick / 10), y: 280 });
  for (let tick = 0; tick <= ticks; tick += ticks > 5 ? 2 : 1) {
    chart.append(draw("path", { d: `M${x(0)} ${y(tick / 10)}H${x(1)}` }));
    label(`${10 * tick}`, { x: 22, y: y(tick / 10) + 4 });
  }
  label("background threshold", { x: x(0.5), y: 300 });
  const colour = (number) => data.series[number % data.series.length];
  scores.forEach(({ curve, threshold, miou, best }, number) => {
    const points = curve.thresholds.map((level, place) => `${x(level)},${y(curve.miou[place])}`).join(" ");
    chart.append(draw("polyline", { points, stroke: colour(number) }),
      draw("circle", { cx: x(threshold), cy: y(miou), r: 4, fill: colour(number) }),
      draw("circle", { cx: x(best.threshold), cy: y(best.miou), r: 5, fill: "none", stroke: colour(number) }));
  });
  const names = scores.map(({ run, stage }, number) => [`${run.title}: ${stage}`, colour(number)]);
  return make("div", {}, chart, key(names),
    text("p", "mIoU % by threshold; the dot is the fixed threshold, the ring the best one, an oracle."));
}

function mistakeBars() {
  const lines = runsShown().flatMap((run) =>
    Object.entries(run.mistakes).map(([stage, line]) => ({ run, stage, line })));
  if (!lines.length) return text("p", "None of the images has a true mask.");
  const most = Math.max(...lines.map(({ line }) => line.wrong), 1e-9);
  const rows = lines.map(({ run, stage, line }) => {
    const bar = make("div", { className: "bar" }, ...KIND_NAMES.map((kind, place) => make("i",
      { "--colour": KIND_COLOURS[place], "--share": `${100 * line[kind] / most}%`, title: kind })));
    return [run.title, data.stages[stage], line.images, percent(line.wrong),
      ...KIND_NAMES.map((kind) => percent(line[kind])), bar];
  });
  return make("div", {}, key(Object.values(data.kinds).map((words, place) => [words, KIND_COLOURS[place]])),
    table(["run", "stage", "images", "wrong %", ...KIND_NAMES.map((kind) => `${kind} %`), ""], rows),
    text("p", "Share of the scored pixels of all images of this gallery; the kinds add up to the wrong pixels."));
}

function confusionMatrix(score) {
  const hasMissed = score.missed.some(Boolean);
  const rows = score.confusion.map((row, label) => {
    const all = hasMissed ? [...row, score.missed[label]] : row;
    const total = all.reduce((sum, count) => sum + count, 0);
    const cells = all.map((count, column) => {
      const share = total ? count / total : 0;
      const cell = text("td", share >= 0.0005 ? percent(share) : "", column === label ? "true" : "");
      cell.style.background = `color-mix(in srgb, var(--bar) ${80 * share}%, transparent)`;
      cell.title = `${data.classes[label]} as ${data.classes[column] ?? "no class"}: ${percent(share)} %`;
      return cell;
    });
    return make("tr", {}, text("th", data.classes[label]), ...cells);
  });
  const heads = [...data.classes, ...(hasMissed ? ["no class"] : [])];
  return make("div", { className: "scroll" }, make("table", { className: "matrix" },
    make("thead", {}, make("tr", {}, text("th", "true \\ predicted"), ...heads.map((name) => text("th", name)))),
    make("tbody", {}, ...rows)));
}

function confusions() {
  const scores = scoresShown();
  if (!scores.length) return text("p", "None of the runs has scores yet.");
  const number = Math.min(state.confusion, scores.length - 1);
  const select = make("select", { ariaLabel: "Run and stage of the matrix" },
    ...scores.map(({ run, stage }, place) => new Option(`${run.title}: ${stage}`, place, false, place === number)));
  const place = make("div", {}, confusionMatrix(scores[number]));
  select.addEventListener("change", () => {
    state.confusion = Number(select.value);
    place.replaceChildren(confusionMatrix(scores[state.confusion]));
  });
  const words = "Percent of the pixels of a true class (row) that are predicted as a class (column).";
  return make("div", {}, select, text("p", words), place);
}

function showRuns() {
  byId("overview").replaceChildren(
    text("h2", "Scores"), scoreTable(), text("h2", "Threshold curves"), curveChart(),
    text("h2", "Mistakes"), mistakeBars(), text("h2", "Confusion of classes"), confusions());
}

function view(isRuns) {
  byId("images").hidden = isRuns;
  byId("overview").hidden = !isRuns;
  byId("view-runs").setAttribute("aria-pressed", isRuns);
  byId("view-images").setAttribute("aria-pressed", !isRuns);
  byId("controls").classList.toggle("for-runs", isRuns);
  if (isRuns) showRuns();
}

// Controls

function options(id, entries) {
  byId(id).replaceChildren(...entries.map(([value, name]) => new Option(name, value)));
  byId(id).addEventListener("change", (event) => {
    state[id === "class" ? "label" : id] = event.target.value;
    update();
  });
}

function boxes(id, names, chosen, redraw) {
  names.forEach(([value, name]) => {
    const box = make("input", { type: "checkbox", checked: true });
    box.addEventListener("change", () => {
      chosen[box.checked ? "add" : "delete"](value);
      redraw();
    });
    byId(id).append(make("label", {}, box, name));
  });
}

const larger = () => byId("larger").setAttribute("aria-pressed", byId("list").classList.toggle("larger"));

function reset() {
  Object.assign(state, { query: "", label: ALL, split: ALL });
  for (const id of ["query", "class", "split"]) byId(id).value = "";
  update();
}

function prepare() {
  const scored = data.runs.flatMap((run, number) => Object.keys(run.mistakes).map((stage) =>
    [`${number} ${stage}`, `${data.runs.length > 1 ? `${run.title}: ` : ""}${data.stages[stage]}`]));
  const labels = new Set(data.images.flatMap((image) => image.labels));
  const used = [...data.classes.keys()].filter((label) => labels.has(label));
  options("class", [[ALL, "all"], ...used.map((label) => [label, data.classes[label]])]);
  options("split", [[ALL, "all"], ["train", "training"], ["val", "validation"]]);
  options("sort", [["name", "name"], ["worst", "IoU, worst first"], ["best", "IoU, best first"],
    ...KIND_NAMES.map((kind) => [kind, `${kind}, most first`])]);
  options("score", scored.length ? scored : [["0 ", "nothing scored"]]);
  state.score = byId("score").value;
  boxes("runs", [...data.runs.entries()].map(([number, run]) => [number, run.title]), state.runs, update);
  byId("runs").hidden = data.runs.length < 2;
  byId("filters").open = innerWidth > 700;
  boxes("columns", Object.entries(COLUMNS), state.columns, showPage);
  byId("query").addEventListener("input", (event) => { state.query = event.target.value; update(); });
  byId("strength").addEventListener("input", (event) => strengthen(event.target.value));
  byId("strength").value = data.strength;
  byId("controls").addEventListener("submit", (event) => event.preventDefault());
  byId("notes").append(...data.runs.flatMap((run) => run.notes).map((note) => text("li", note)));
  for (const [id, action] of [["view-images", () => view(false)], ["view-runs", () => view(true)],
    ["previous", () => turn(-1)], ["next", () => turn(1)], ["larger", larger],
    ["open-help", () => byId("help").showModal()]]) byId(id).addEventListener("click", action);
}

const strengthen = (strength) => byId("list").style.setProperty("--strength", strength);

const escape = () => document.activeElement.matches("input, select") ? document.activeElement.blur() : reset();

const KEYS = {
  j: () => step(1), ArrowDown: () => step(1), k: () => step(-1), ArrowUp: () => step(-1),
  n: () => turn(1), ArrowRight: () => turn(1), p: () => turn(-1), ArrowLeft: () => turn(-1),
  z: larger, r: () => view(byId("overview").hidden), "/": () => byId("query").select(),
  "?": () => byId("help").showModal(), Escape: escape,
};

function onKey(event) {
  const isTyping = event.target.matches?.("input:not([type=checkbox]), select");
  if (event.ctrlKey || event.metaKey || event.altKey || byId("help").open) return;
  if (isTyping && event.key !== "Escape") return;
  const box = /^[1-9]$/.test(event.key) && byId("columns").querySelectorAll("input")[event.key - 1];
  const isMoving = ["j", "k", "n", "p", "z"].includes(event.key) || event.key.startsWith("Arrow");
  if (!box && (!Object.hasOwn(KEYS, event.key) || (isMoving && byId("images").hidden))) return;
  event.preventDefault();
  box ? box.click() : KEYS[event.key]();
}

prepare();
strengthen(data.strength);
update();
document.addEventListener("keydown", onKey);
