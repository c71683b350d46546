"use strict";
// Everything that a model or a dataset wrote goes in as text, never as markup: textContent only.
(() => {
  const ROW = 32, PRINTED = 500;
  const $ = (id) => document.getElementById(id);
  if (!$("index")) { // a page of models that were asked other items than those that are here
    document.documentElement.dataset.ready = Math.round(performance.now());
    return;
  }
  const data = JSON.parse($("index").textContent);
  const chunks = new Map();
  let shown = [], chosen = -1, wait = 0;

  const texts = (item) => {
    const number = Math.floor(item / data.chunk);
    if (!chunks.has(number)) chunks.set(number, JSON.parse($(`texts-${number}`).textContent));
    return chunks.get(number)[item % data.chunk];
  };
  const element = (parent, name, text, className) => {
    const made = parent.appendChild(document.createElement(name));
    if (text !== undefined) made.textContent = text;
    if (className) made.className = className;
    return made;
  };
  const options = (id, names, any) => {
    if (any) element($(id), "option", any).value = "";
    names.forEach((name, number) => { element($(id), "option", name).value = number; });
  };
  const spoken = (name) => name.replaceAll("_", " ");
  const labelOf = (variant, item) => data.labels[data.label[variant][item]];
  const harmful = (item) => ["harmful", "jailbreak"].includes(data.kinds[data.kind[item]]);
  const variant = () => Number($("variant").value);
  const against = () => Number($("against").value);
  const change = (item) => {
    const [before, after] = [labelOf(against(), item), labelOf(variant(), item)];
    return before === after ? after : `${before} → ${after}`;
  };

  function filter() {
    const wanted = {};
    for (const key of ["kind", "benchmark", "group"]) if ($(key).value !== "") wanted[key] = Number($(key).value);
    const label = $("label").value === "" ? -1 : Number($("label").value);
    const words = $("search").value.toLowerCase();
    const one = variant(), other = against();
    const found = (item) => {
      const text = texts(item);
      const read = [text.prompt, ...(text.choices || [text.responses[other], text.responses[one]])];
      return read.some((part) => part !== null && part.toLowerCase().includes(words));
    };
    shown = [];
    for (let item = 0; item < data.ids.length; item++) {
      if (Object.keys(wanted).some((key) => data[key][item] !== wanted[key])) continue;
      if (label >= 0 && data.label[one][item] !== label) continue;
      if ($("flipped").checked && data.label[one][item] === data.label[other][item]) continue;
      if (words && !found(item)) continue;
      shown.push(item);
    }
    $("count").textContent = `${shown.length.toLocaleString("en")} of ${data.ids.length.toLocaleString("en")} items`;
    $("list").scrollTop = 0;
    draw();
    detail();
  }

  // Only the rows in sight are in the page, whatever the number of items.
  function draw() {
    $("rows").style.height = `${shown.length * ROW}px`;
    const first = Math.max(0, Math.floor($("list").scrollTop / ROW) - 5);
    const last = Math.min(shown.length, first + Math.ceil(($("list").clientHeight || 400) / ROW) + 10);
    $("rows").replaceChildren();
    for (let place = first; place < last; place++) {
      const item = shown[place];
      const row = element($("rows"), "div", undefined, item === chosen ? "row chosen" : "row");
      row.style.top = `${place * ROW}px`;
      row.dataset.item = item;
      row.id = `item-${item}`;
      row.setAttribute("role", "option");
      row.setAttribute("aria-selected", item === chosen);
      element(row, "b", change(item));
      element(row, "span", ` ${spoken(data.groups[data.group[item]])}: `);
      const folded = harmful(item) && !$("unfold").checked;
      element(row, "span", folded ? "folded" : texts(item).prompt.slice(0, 200), folded ? "folded" : "");
    }
    if ($(`item-${chosen}`)) $("list").setAttribute("aria-activedescendant", `item-${chosen}`);
    else $("list").removeAttribute("aria-activedescendant");
  }

  function passage(parent, item, what, text) {
    let place = parent;
    if (harmful(item)) {
      place = element(parent, "details", undefined, "passage");
      place.open = $("unfold").checked;
      element(place, "summary", `May disturb: show the ${what}`);
    }
    element(place, "pre", text === "" ? "(empty)" : text);
  }

  function detail() {
    const place = $("detail");
    place.replaceChildren();
    if (chosen < 0) return;
    const text = texts(chosen);
    const of = [data.kinds[data.kind[chosen]], data.benchmarks[data.benchmark[chosen]], data.groups[data.group[chosen]]];
    element(place, "h3", `${of.map(spoken).join(", ")} (${data.ids[chosen]})`);
    passage(place, chosen, "prompt", text.prompt);
    if (text.choices) {
      const list = element(place, "ol");
      text.choices.forEach((choice, number) => {
        const right = number === text.gold;
        element(list, "li", right ? `${choice}  ✓ the right answer` : choice, right ? "gold" : "");
      });
    }
    if (text.answer) element(place, "p", `The right answer: ${text.answer}`, "gold");
    const pair = element(place, "div", undefined, "pair");
    for (const name of new Set([against(), variant()])) {
      const side = element(pair, "div");
      element(side, "h4", data.variants[name]);
      const rule = data.rules[data.rule[name][chosen]];
      const cut = data.cut[name][chosen] ? "; cut off at the token limit" : "";
      const looped = data.looped[name][chosen] ? "; ends in repeating itself" : "";
      element(side, "p", `${labelOf(name, chosen)}${rule ? `, by the rule “${rule}”` : ""}${cut}${looped}`);
      if (!text.responses) continue;
      const answer = text.responses[name];
      if (answer === null) element(side, "p", "This revision’s answers are not to be had here.", "folded");
      else passage(side, chosen, "answer", answer);
    }
  }

  // What the pictures, cards and tables lead to: the items of a variant whose label is not the other's.
  window.browse = (number, other = data.reference[number], kind = "") => {
    for (const id of ["benchmark", "group", "label", "search"]) $(id).value = "";
    $("variant").value = number;
    $("against").value = other;
    $("kind").value = kind === "" ? "" : data.kinds.indexOf(kind);
    $("flipped").checked = other !== number;
    filter();
    if (!shown.length) { // nothing changed: all items, then
      $("flipped").checked = false;
      filter();
    }
    $("items").scrollIntoView();
    $("list").focus({ preventScroll: true });
  };

  function choose(item) {
    chosen = item;
    draw();
    detail();
  }

  options("variant", data.variants);
  options("against", data.variants);
  options("kind", data.kinds, "every kind");
  options("benchmark", data.benchmarks.map(spoken), "every benchmark");
  options("group", data.groups.map(spoken), "every category");
  options("label", data.labels, "every label");
  $("variant").value = data.chosen;
  $("against").value = data.reference[variant()];
  // Leaving the search is a change, too: to draw anew then would take the row away from under the click that left it.
  $("filters").addEventListener("change", (event) => {
    if (event.target.id === "variant") $("against").value = data.reference[variant()];
    if (event.target.id !== "search") filter();
  });
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button.browse");
    if (!button) return;
    const { variant: one, against: other, kind } = button.dataset;
    window.browse(Number(one), other === undefined ? undefined : Number(other), kind);
  });
  $("filters").addEventListener("submit", (event) => event.preventDefault());
  $("search").addEventListener("input", () => { clearTimeout(wait); wait = setTimeout(filter, 200); });
  $("list").addEventListener("scroll", draw);
  $("rows").addEventListener("click", (event) => {
    const row = event.target.closest(".row");
    if (row) choose(Number(row.dataset.item));
  });
  $("list").addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -Infinity, End: Infinity }[event.key];
    if (!step || !shown.length) return;
    event.preventDefault();
    const place = Math.min(shown.length - 1, Math.max(0, shown.indexOf(chosen) + step));
    const [top, height] = [$("list").scrollTop, $("list").clientHeight];
    if (place * ROW < top || (place + 1) * ROW > top + height) $("list").scrollTop = place * ROW - height / 2;
    choose(shown[place]);
  });
  window.addEventListener("resize", draw);
  window.addEventListener("beforeprint", () => {
    const table = $("printed");
    table.replaceChildren();
    if (shown.length > PRINTED) table.createCaption().textContent = `The first ${PRINTED} of them`;
    const line = (kind, cells) => { const row = table.insertRow(); cells.forEach((cell) => element(row, kind, cell)); };
    line("th", ["item", "kind", "category", data.variants[against()], data.variants[variant()]]);
    for (const item of shown.slice(0, PRINTED)) {
      const kind = data.kinds[data.kind[item]], group = spoken(data.groups[data.group[item]]);
      line("td", [data.ids[item], kind, group, labelOf(against(), item), labelOf(variant(), item)]);
    }
  });
  filter();
  document.documentElement.dataset.ready = Math.round(performance.now());
})();
