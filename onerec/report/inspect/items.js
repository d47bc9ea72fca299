"use strict";
// Items stand in the order of their IDs, so the items below a prefix are the range [from, to) of positions.
// `shown` lists the positions whose items the page carries; a "row" is an index into that list and into every column.

const data = JSON.parse(document.getElementById("data").textContent);
const LEVELS = data.levels;
const codes = unpack(data.codes);
const shown = unpack(data.shown);
const quantized = unpack(data.quantized);
const error = unpack(data.error);
const near = { each: data.near.each, rows: unpack(data.near.rows), cosine: unpack(data.near.cosine) };
const tree = { each: data.tree.each, rows: unpack(data.tree.rows), cosine: unpack(data.tree.cosine) };
for (const column of data.columns) if (column.index) column.index = unpack(column.index);
const quantizedLevels = shown.length ? quantized.length / shown.length : 0;

function unpack(packed) {
  const [kind, text] = Object.entries(packed)[0];
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  if (kind === "u8") return bytes;
  const view = new DataView(bytes.buffer);
  const width = kind === "u16" ? 2 : 4;
  const numbers = kind === "u16" ? new Uint16Array(bytes.length / 2) : new Uint32Array(bytes.length / 4);
  for (let i = 0; i < numbers.length; i++) {
    numbers[i] = width === 2 ? view.getUint16(2 * i, true) : view.getUint32(4 * i, true);
  }
  return numbers;
}

// -- items ----------------------------------------------------------------------------------------------------------

const cell = (column, row) => (column.index ? column.values[column.index[row]] : column.cells[row]);
const code = (position, level) => codes[position * LEVELS + level];
const codesOf = (row) => Array.from({ length: LEVELS }, (_, level) => code(shown[row], level));
const quantizedOf = (row) => Array.from(quantized.subarray(row * quantizedLevels, (row + 1) * quantizedLevels));

function titleOf(row) {
  const title = data.title < 0 ? "" : cell(data.columns[data.title], row).trim();
  return title || `item ${data.ids[row]}`;
}

function sharedDepth(left, right) {
  let depth = 0;
  while (depth < LEVELS && code(shown[left], depth) === code(shown[right], depth)) depth++;
  return depth;
}

// -- ranges ---------------------------------------------------------------------------------------------------------

/** First index in [from, to) for which `reached` holds; it must hold for all that follow. */
function bisect(from, to, reached) {
  while (from < to) {
    const middle = (from + to) >> 1;
    if (reached(middle)) to = middle;
    else from = middle + 1;
  }
  return from;
}

function rangeOf(prefix) {
  let [from, to] = [0, data.items];
  prefix.forEach((wanted, level) => {
    from = bisect(from, to, (position) => code(position, level) >= wanted);
    to = bisect(from, to, (position) => code(position, level) > wanted);
  });
  return [from, to];
}

/** The shown items of a range of positions, as a range of rows. */
function rowsOf([from, to]) {
  const first = bisect(0, shown.length, (row) => shown[row] >= from);
  return [first, bisect(first, shown.length, (row) => shown[row] >= to)];
}

function childrenOf(prefix) {
  const [start, end] = rangeOf(prefix);
  const level = prefix.length;
  const children = [];
  for (let from = start; from < end; ) {
    const value = code(from, level);
    const to = bisect(from, end, (position) => code(position, level) > value);
    children.push({ code: value, from, to, count: to - from });
    from = to;
  }
  return children;
}

const MISSING = new Set(data.missing); // cells that say there is nothing

/** The most frequent value of a column among rows, and the share of the rows that have it. */
function dominant([from, to], column) {
  const counts = new Map();
  for (let row = from; row < to; row++) {
    const value = cell(column, row).trim();
    if (!MISSING.has(value.toLowerCase())) counts.set(value, (counts.get(value) || 0) + 1);
  }
  let [best, most] = ["", 0];
  for (const [value, count] of counts) if (count > most) [best, most] = [value, count];
  return { value: best, share: to > from ? most / (to - from) : 0 };
}
