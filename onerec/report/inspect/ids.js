"use strict";
// Draws the page from the items of items.js. Every text is set as text, never as markup.

const PAGE = 12; // cards and list entries drawn at once
const LONGEST_COLUMN = 400; // rows of a tree column drawn at once
const state = { prefix: [], item: -1, label: data.labels.length ? data.labels[0] : -1, order: "count" };
const byId = (id) => document.getElementById(id);
const lastPart = (value) => value.split(" > ").pop();

// -- building the page ----------------------------------------------------------------------------------------------

function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element && name !== "list") element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

const number = (value) => value.toLocaleString("en");
const percent = (share) => `${Math.round(100 * share)} %`;

function codeText(own, other) {
  const parts = make("span", { className: "codes" });
  let same = other !== undefined;
  own.forEach((value, level) => {
    same = same && other[level] === value;
    parts.append(level ? " · " : "", same ? make("b", {}, String(value)) : String(value));
  });
  return parts;
}

const depthMark = (depth) => {
  const words = depth === 0 ? "no code" : depth === 1 ? "1 code" : `${depth} codes`;
  return make("span", { className: `depth d${Math.min(depth, 3)}`, title: `begins with ${words} of the chosen item's ID` }, words);
};

const itemLink = (row) =>
  make("button", { type: "button", className: "link", onclick: () => chooseItem(row) }, titleOf(row));

function fields(row) {
  const list = make("dl", { className: "fields" });
  data.columns.forEach((column, index) => {
    const value = cell(column, row);
    if (index !== data.title && value) list.append(make("dt", {}, column.name.replaceAll("_", " ")), make("dd", {}, value));
  });
  return list;
}

/** Draw entries a page at a time, with a button for the next. */
function paged(parent, total, size, draw) {
  let drawn = 0;
  const button = make("button", { type: "button", className: "more" });
  const next = () => {
    const end = Math.min(total, drawn + size);
    const part = document.createDocumentFragment();
    for (; drawn < end; drawn++) part.append(draw(drawn));
    parent.append(part);
    button.textContent = `show ${number(Math.min(size, total - drawn))} more of ${number(total - drawn)}`;
    button.hidden = drawn >= total;
  };
  button.onclick = next;
  next();
  return button;
}

// -- the tree -------------------------------------------------------------------------------------------------------

function treeColumn(level, full) {
  const prefix = state.prefix.slice(0, level);
  const children = childrenOf(prefix);
  const title = full
    ? `Level ${level + 1} · ${number(children.length)} ${children.length === 1 ? "item" : "items"}`
    : `Level ${level + 1} · ${number(children.length)} ${children.length === 1 ? "code" : "codes"} in use`;
  if (state.order === "count") children.sort((left, right) => right.count - left.count || left.code - right.code);
  const most = Math.max(...children.map((child) => child.count));
  const chosen = children.findIndex((child) => child.code === state.prefix[level]);
  if (chosen >= LONGEST_COLUMN) children.unshift(...children.splice(chosen, 1));
  const rows = make("div", { className: "rows", role: "group", "aria-label": title });
  const more = paged(rows, children.length, LONGEST_COLUMN, (index) => treeRow(prefix, children[index], most, full));
  rows.append(more);
  return make("div", { className: "column" }, make("h3", {}, title), rows);
}

function treeRow(prefix, child, most, full) {
  const rows = rowsOf([child.from, child.to]);
  const label = state.label < 0 ? { value: "" } : dominant(rows, data.columns[state.label]);
  const example = rows[0] < rows[1] ? titleOf((rows[0] + rows[1]) >> 1) : "";
  const name = lastPart(label.value);
  const row = make("button", { type: "button", className: "row" });
  row.append(make("span", { className: "code" }, String(child.code)));
  if (full || !name) row.append(make("span", { className: "what", title: example }, example));
  else row.append(make("span", { className: "what", title: label.value }, name));
  row.append(make("span", { className: "number" }, full ? "" : number(child.count)));
  const below = full ? name : name ? (child.count > 1 ? `${percent(label.share)} · ${example}` : example) : "";
  if (below) row.append(make("span", { className: "such" }, below));
  if (!full && most > 1) row.style.setProperty("--share", `${(100 * child.count) / most}%`);
  if (state.prefix[prefix.length] === child.code) row.setAttribute("aria-current", "true");
  row.onclick = () => choosePrefix([...prefix, child.code]);
  return row;
}

function drawTree() {
  const scrolls = [...byId("tree").querySelectorAll(".rows")].map((rows) => rows.scrollTop);
  const columns = [];
  for (let level = 0; level <= Math.min(state.prefix.length, LEVELS - 1); level++) {
    columns.push(treeColumn(level, level === LEVELS - 1));
  }
  for (let level = columns.length; level < Math.min(LEVELS, 3); level++) {
    const hint = make("p", { className: "empty" }, "choose a code on the left");
    columns.push(make("div", { className: "column" }, make("h3", {}, `Level ${level + 1}`), make("div", { className: "rows" }, hint)));
  }
  byId("tree").replaceChildren(...columns);
  columns.forEach((column, level) => {
    const rows = column.querySelector(".rows");
    rows.scrollTop = scrolls[level] || 0;
    const current = rows.querySelector('[aria-current="true"]');
    if (!current) return;
    const offset = current.offsetTop - rows.offsetTop;
    if (offset < rows.scrollTop || offset > rows.scrollTop + rows.clientHeight - 50) rows.scrollTop = offset - 60;
  });
  byId("tree").scrollLeft = state.prefix.length > 1 ? byId("tree").scrollWidth : 0;
}

function drawCrumbs() {
  const parts = [];
  const crumb = (words, prefix, last) =>
    last ? make("b", {}, words) : make("button", { type: "button", onclick: () => choosePrefix(prefix) }, words);
  parts.push(crumb("all items", [], !state.prefix.length));
  state.prefix.forEach((value, level) => {
    parts.push(make("i", {}, "›"), crumb(String(value), state.prefix.slice(0, level + 1), level === state.prefix.length - 1));
  });
  byId("crumbs").replaceChildren(...parts);
}

// -- what is chosen -------------------------------------------------------------------------------------------------

function itemPanel(row) {
  const own = codesOf(row);
  const given = quantizedOf(row);
  const facts = make("dl", { className: "fields" });
  const fact = (name, value) => facts.append(make("dt", {}, name), make("dd", {}, value));
  fact("ID", codeText(own));
  fact("item", data.ids[row]);
  const moved = given.some((value, level) => value !== own[level]);
  if (moved || given.length !== own.length) fact("codes the quantizer gave", codeText(given, own));
  fact("squared distance to these codes", `${(error[row] / 100).toFixed(2)} × the mean`);
  facts.append(...fields(row).childNodes);
  const heading = make("div", { className: "heading" }, make("h3", {}, titleOf(row)));
  return make(
    "div",
    { className: "item" },
    heading,
    make(
      "div",
      { className: "parts" },
      make("div", {}, facts),
      neighbourList(row, near, "Nearest by vector", "Most similar content and behaviour; how much of the ID they share."),
      neighbourList(row, tree, "Nearest by ID", "What the generator takes for its neighbours; how similar they are."),
    ),
  );
}

function neighbourList(row, table, title, words) {
  const list = make("ul", { className: "near" });
  for (let place = row * table.each; place < (row + 1) * table.each; place++) {
    const other = table.rows[place];
    const cosine = ((table.cosine[place] - 100) / 100).toFixed(2);
    list.append(
      make("li", {}, make("span", { className: "cosine", title: "cosine of the vectors" }, cosine), itemLink(other), depthMark(sharedDepth(row, other))),
    );
  }
  if (!table.each) list.append(make("li", {}, "no other item"));
  return make("div", {}, make("h4", {}, title), make("p", { className: "small" }, words), list);
}

function prefixPanel() {
  const range = rangeOf(state.prefix);
  const [from, to] = rowsOf(range);
  const count = range[1] - range[0];
  const name = state.prefix.length ? `Items that begin ${state.prefix.join(" · ")}` : "All items";
  const words = to - from < count ? `${number(count)}, ${number(to - from)} of them on this page` : number(count);
  const heading = make("div", { className: "heading" }, make("h3", {}, name), make("span", { className: "soft" }, words));
  const shares = make("ul", { className: "shares" });
  if (count > 1) {
    for (const index of data.labels) {
      const found = dominant([from, to], data.columns[index]);
      if (!found.value) continue;
      const label = make("span", {}, `${data.columns[index].name.replaceAll("_", " ")}: `);
      shares.append(make("li", { title: found.value }, label, `${lastPart(found.value)} ${percent(found.share)}`));
    }
  }
  const cards = make("div", { className: "cards" });
  const more = paged(cards, to - from, PAGE, (index) => {
    const row = from + index;
    const title = make("h4", {}, itemLink(row));
    const card = make("article", { className: "card" }, title, codeText(codesOf(row), state.prefix), fields(row));
    if (row === state.item) card.classList.add("chosen");
    return card;
  });
  return [heading, shares, cards, more];
}

function drawDetail() {
  const parts = state.item >= 0 ? [itemPanel(state.item)] : [];
  if (state.prefix.length || LEVELS === 1) parts.push(...prefixPanel());
  byId("detail").replaceChildren(...parts);
}

function draw() {
  drawCrumbs();
  drawTree();
  drawDetail();
}

function choosePrefix(prefix) {
  const [from, to] = rowsOf(rangeOf(prefix));
  Object.assign(state, { prefix, item: prefix.length === LEVELS && to > from ? from : -1 });
  remember(prefix.length ? `#prefix=${prefix.join(".")}` : "#browse");
  draw();
}

function chooseItem(row, quietly = false) {
  Object.assign(state, { item: row, prefix: codesOf(row).slice(0, Math.max(1, LEVELS - 1)) });
  if (!quietly) remember(`#item=${encodeURIComponent(data.ids[row])}`);
  draw();
  byId("detail").scrollIntoView({ block: "nearest" });
  if (!quietly && byId("crumbs").getBoundingClientRect().top < 0) byId("crumbs").scrollIntoView();
}

const remember = (hash) => history.replaceState(null, "", hash);

function openHash() {
  const [, kind, value] = location.hash.match(/^#(item|prefix)=(.+)$/) || [];
  if (kind === "item") {
    const row = data.ids.indexOf(decodeURIComponent(value));
    if (row >= 0) return chooseItem(row, true);
  }
  if (kind === "prefix") {
    const prefix = value.split(".").map(Number).slice(0, LEVELS);
    const [from, to] = rangeOf(prefix);
    if (to > from) return choosePrefix(prefix);
  }
  return start();
}

/** What stands there before anything is chosen: the fullest first code. */
function start() {
  if (LEVELS > 1) {
    const children = childrenOf([]);
    state.prefix = [children.reduce((best, child) => (child.count > best.count ? child : best)).code];
  }
  draw();
}

// -- searching ------------------------------------------------------------------------------------------------------

const lowered = [];
const FOUND = 40;

function search(words) {
  if (!lowered.length) for (let row = 0; row < shown.length; row++) lowered.push(titleOf(row).toLowerCase());
  const parts = words.toLowerCase().split(/\s+/).filter(Boolean);
  const exact = data.ids.indexOf(words.trim());
  const found = exact >= 0 ? [exact] : [];
  let total = found.length;
  for (let row = 0; row < lowered.length; row++) {
    if (row === exact || !parts.every((part) => lowered[row].includes(part))) continue;
    if (found.length < FOUND) found.push(row);
    total++;
  }
  return { found, total };
}

function marked(text, words) {
  const part = words.split(/\s+/).filter(Boolean)[0] || "";
  const at = part ? text.toLowerCase().indexOf(part.toLowerCase()) : -1;
  if (at < 0) return [text];
  return [text.slice(0, at), make("mark", {}, text.slice(at, at + part.length)), text.slice(at + part.length)];
}

function drawFound() {
  const [input, list] = [byId("query"), byId("found")];
  const words = input.value.trim();
  list.hidden = !words;
  input.setAttribute("aria-expanded", String(Boolean(words)));
  input.removeAttribute("aria-activedescendant");
  if (!words) return list.replaceChildren();
  const { found, total } = search(words);
  const entries = found.map((row, index) => {
    const entry = make("li", { role: "option", id: `found-${index}`, "aria-selected": "false" });
    entry.append(make("span", {}, ...marked(titleOf(row), words)), codeText(codesOf(row)));
    entry.onmousedown = (event) => event.preventDefault();
    entry.onclick = () => pick(row);
    entry.dataset.row = row;
    return entry;
  });
  if (total > found.length) entries.push(make("li", { className: "none" }, `and ${number(total - found.length)} more`));
  if (!total) entries.push(make("li", { className: "none" }, "no item on this page has these words or this id"));
  return list.replaceChildren(...entries);
}

function pick(row) {
  byId("query").value = titleOf(row);
  byId("found").hidden = true;
  byId("query").setAttribute("aria-expanded", "false");
  chooseItem(row);
}

function moveChoice(step) {
  const entries = [...byId("found").querySelectorAll('[role="option"]')];
  if (!entries.length) return;
  const now = entries.findIndex((entry) => entry.getAttribute("aria-selected") === "true");
  const next = (now + step + entries.length + (now < 0 && step < 0 ? 1 : 0)) % entries.length;
  entries.forEach((entry, index) => entry.setAttribute("aria-selected", String(index === next)));
  byId("query").setAttribute("aria-activedescendant", entries[next].id);
  entries[next].scrollIntoView({ block: "nearest" });
}

function onKey(event) {
  if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    event.preventDefault();
    moveChoice(event.key === "ArrowDown" ? 1 : -1);
  } else if (event.key === "Enter") {
    const entry = byId("found").querySelector('[aria-selected="true"]') || byId("found").querySelector('[role="option"]');
    if (entry && !byId("found").hidden) pick(Number(entry.dataset.row));
  } else if (event.key === "Escape") {
    byId("found").hidden = true;
  }
}

// -- confused items -------------------------------------------------------------------------------------------------

function confusedGroup(top, rows, note) {
  const list = make("ul");
  const more = paged(list, rows.length, 4, (index) => make("li", {}, itemLink(rows[index]), note ? note(rows[index]) : ""));
  const group = make("div", { className: "group" }, make("div", { className: "top" }, ...top), list);
  if (!more.hidden) group.append(more);
  return group;
}

function drawConfused() {
  const sections = {
    collided: (rows) => confusedGroup([make("span", {}, `${number(rows.length)} items`), codeText(quantizedOf(rows[0]))], rows),
    parted: ([left, right, cosine]) =>
      confusedGroup([make("span", {}, `cosine ${(cosine / 100).toFixed(2)}`)], [left, right], (row) => codeText(codesOf(row))),
    far: (row) => confusedGroup([make("span", {}, `${(error[row] / 100).toFixed(1)} × the mean`)], [row], () => codeText(quantizedOf(row))),
  };
  for (const [name, drawOne] of Object.entries(sections)) {
    const entries = data[name];
    const more = paged(byId(name), entries.length, 8, (index) => drawOne(entries[index]));
    byId(name).after(entries.length ? more : make("p", { className: "soft" }, "None."));
  }
}

// -- start ----------------------------------------------------------------------------------------------------------

for (const index of data.labels) {
  byId("label").append(make("option", { value: String(index) }, data.columns[index].name.replaceAll("_", " ")));
}
byId("label-choice").hidden = data.labels.length < 2;
byId("label").onchange = (event) => {
  state.label = Number(event.target.value);
  drawTree();
};
byId("order").onchange = (event) => {
  state.order = event.target.value;
  drawTree();
};
byId("query").oninput = drawFound;
byId("query").onfocus = drawFound;
byId("query").onblur = () => {
  byId("found").hidden = true;
};
byId("query").onkeydown = onKey;
openHash();
drawConfused();
