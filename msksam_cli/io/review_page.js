// Filter, keyboard review and lazy pictures of a report. Decisions stay in this browser until they are saved as CSV.
"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const settings = JSON.parse($("settings").textContent);
  const { decisions, columns } = settings;
  const past = { accept: "accepted", edit: "to be edited", reject: "rejected" };
  const key = `msksam-review:${settings.run}`;
  const rows = [...$("overview").tBodies[0].rows];
  const cases = [...document.querySelectorAll("section.case")].map((section, index) => ({
    section,
    index,
    row: rows[index],
    name: section.dataset.case,
    labels: section.dataset.labels,
    statuses: section.dataset.statuses.split(" ").filter(Boolean),
    flags: section.dataset.flags.split(" ").filter(Boolean),
    text: `${section.dataset.case} ${[...section.querySelectorAll(".doubts li")].map((li) => li.textContent).join(" ")}`.toLowerCase(),
    volume: section.querySelector("script.volume"),
  }));
  const byName = new Map(cases.map((one) => [one.name, one]));
  const undone = [];
  let review = load();
  let current = null;

  // What is kept: {case: {decision, note, decided, labels}}.
  function load() {
    try {
      return JSON.parse(localStorage.getItem(key)) ?? {};
    } catch {
      return {};
    }
  }

  function keep() {
    try {
      localStorage.setItem(key, JSON.stringify(review));
    } catch {
      say("This browser keeps nothing: save review.csv before you close the page.");
    }
  }

  const entry = (one) => review[one.name] ?? { decision: "", note: "", decided: "", labels: one.labels };
  const isStale = (one) => Boolean(entry(one).decision) && entry(one).labels !== one.labels;
  const decisionOf = (one) => (isStale(one) ? "" : entry(one).decision);
  const shown = () => cases.filter((one) => !one.section.hidden);

  function say(text) {
    $("message").textContent = text;
  }

  // The lines of buttons are made here: they would do nothing without this script.
  function addControls(one) {
    const line = document.createElement("div");
    line.className = "line decide";
    line.setAttribute("role", "group");
    line.setAttribute("aria-label", `Decision on ${one.name}`);
    for (const decision of decisions) {
      const button = document.createElement("button");
      button.type = "button";
      button.value = decision;
      button.textContent = decision;
      button.addEventListener("click", () => decide(one, decision));
      line.append(button);
    }
    one.note = document.createElement("input");
    one.note.className = "note";
    one.note.placeholder = "note";
    one.note.setAttribute("aria-label", `Note on ${one.name}`);
    one.note.addEventListener("change", () => change(one, { note: one.note.value }));
    line.append(one.note);
    if (one.volume) {
      const open = document.createElement("button");
      open.type = "button";
      open.className = "open-viewer";
      open.textContent = "Three planes";
      open.addEventListener("click", () => view(one));
      line.append(open);
    }
    one.stale = document.createElement("span");
    line.append(one.stale);
    one.section.querySelector(".rank").after(line);
    one.buttons = [...line.querySelectorAll("button[value]")];
    one.cell = one.row.cells[one.row.cells.length - 1];
  }

  function draw(one) {
    const decision = decisionOf(one);
    for (const button of one.buttons) button.setAttribute("aria-pressed", String(button.value === decision));
    one.note.value = entry(one).note;
    one.stale.textContent = isStale(one) ? `${past[entry(one).decision]} before the labels changed` : "";
    one.cell.textContent = decision;
    one.cell.className = decision;
  }

  function drawProgress() {
    const decided = cases.filter((one) => decisionOf(one)).length;
    const visible = shown().length;
    const part = visible === cases.length ? "" : `; ${visible} shown`;
    $("progress").textContent = `${decided} of ${cases.length} decided${part}`;
  }

  function change(one, changes) {
    review[one.name] = { ...entry(one), ...changes, labels: one.labels };
    keep();
    draw(one);
    drawProgress();
  }

  function decide(one, decision) {
    undone.push([one, review[one.name]]);
    const next = shown()[shown().indexOf(one) + 1];
    change(one, { decision, decided: new Date().toISOString().slice(0, 19) + "Z" });
    say(`${one.name} ${past[decision]}.`);
    if (next) go(next);
    filter();
  }

  function undo() {
    if (!undone.length) return say("Nothing to undo.");
    const [one, before] = undone.pop();
    if (before) review[one.name] = before;
    else delete review[one.name];
    keep();
    draw(one);
    filter();
    one.section.hidden = one.row.hidden = false;
    drawProgress();
    go(one);
    say(`Undone: ${one.name} is ${decisionOf(one) ? past[decisionOf(one)] : "undecided"}.`);
  }

  function filter() {
    const text = $("filter-text").value.trim().toLowerCase();
    const [status, flag, decision] = ["status", "flag", "decision"].map((name) => $(`filter-${name}`).value);
    for (const one of cases) {
      const fits =
        one.text.includes(text) &&
        (!status || one.statuses.includes(status)) &&
        (!flag || (flag === "-" ? !one.flags.length : one.flags.includes(flag))) &&
        (!decision || (decisionOf(one) || "undecided") === decision);
      one.section.hidden = one.row.hidden = !fits;
    }
    drawProgress();
  }

  function clearFilters() {
    for (const field of $("controls").querySelectorAll("#filter-text, select")) field.value = "";
    filter();
  }

  function mark(one) {
    if (current === one) return;
    for (const part of current ? [current.section, current.row] : []) part.classList.remove("current");
    current = one;
    one.section.classList.add("current");
    one.row.classList.add("current");
  }

  function go(one) {
    mark(one);
    reveal(one);
    one.section.focus({ preventScroll: true });
    one.section.scrollIntoView({ block: "start" });
    if (typeof Viewer !== "undefined" && Viewer.isOpen()) view(one);
  }

  function step(by) {
    const list = shown();
    if (!list.length) return;
    const at = list.indexOf(current);
    const to = at < 0 ? (current ? list.findIndex((one) => one.index > current.index) : 0) : at + by;
    if (list[to]) go(list[to]);
    else say(by > 0 ? "This is the last case." : "This is the first case.");
  }

  function view(one) {
    if (typeof Viewer === "undefined") return say("This page carries no viewer.");
    if (!one.volume) {
      Viewer.close();
      return say(`The page carries no volume of ${one.name}.`);
    }
    Viewer.open(one.name, one.volume, settings.tissues).catch((error) => {
      Viewer.close();
      say(`The viewer cannot be shown here: ${error.message}`);
    });
  }

  // Pictures are text until they are wanted.
  function reveal(one) {
    for (const waiting of one.section.querySelectorAll("noscript")) waiting.outerHTML = waiting.textContent;
  }

  async function print() {
    cases.forEach(reveal);
    const pictures = [...document.querySelectorAll("section.case:not([hidden]) img")];
    for (const picture of pictures) picture.loading = "eager";
    await Promise.allSettled(pictures.map((picture) => picture.decode()));
    window.print();
  }

  const quoted = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

  function csv() {
    const lines = cases.map((one) => {
      const { note, decided } = entry(one);
      return [one.name, decisionOf(one), note, decisionOf(one) && decided, one.labels].map(quoted).join(",");
    });
    return [columns.join(","), ...lines, ""].join("\n");
  }

  function save() {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
    link.download = "review.csv";
    link.click();
    URL.revokeObjectURL(link.href);
    say("review.csv is saved: segment --only and finetune --exclude read it.");
  }

  function parseCsv(text) {
    const table = [[""]];
    for (const [, comma, line, quote, plain] of text.matchAll(/(,)|(\r?\n)|"((?:[^"]|"")*)"|([^,"\r\n]+)/g)) {
      const row = table.at(-1);
      if (comma) row.push("");
      else if (line) table.push([""]);
      else row[row.length - 1] += quote !== undefined ? quote.replaceAll('""', '"') : plain;
    }
    const [header, ...body] = table;
    return body.map((row) => Object.fromEntries(header.map((name, n) => [name.replace("\ufeff", ""), row[n] ?? ""])));
  }

  async function read(file) {
    const found = parseCsv(await file.text()).filter((row) => byName.has(row.case));
    for (const row of found) {
      const decision = decisions.includes(row.decision) ? row.decision : "";
      const labels = row.labels_sha256 ?? byName.get(row.case).labels;
      review[row.case] = { decision, note: row.note ?? "", decided: row.decided ?? "", labels };
    }
    keep();
    cases.forEach(draw);
    filter();
    say(`${found.length} cases are read from ${file.name}.`);
  }

  const keys = {
    j: () => step(1),
    k: () => step(-1),
    a: () => current && decide(current, "accept"),
    e: () => current && decide(current, "edit"),
    r: () => current && decide(current, "reject"),
    u: undo,
    n: () => current?.note.focus(),
    v: () => current && view(current),
    p: () => $("show-prompts").click(),
    "/": () => $("filter-text").focus(),
    "?": () => ($("help").open = !$("help").open),
  };

  function press(event) {
    const isField = event.target.matches("input:not([type=checkbox]):not([type=range]), select, textarea");
    if (event.key === "Escape" && isField && current) return current.section.focus({ preventScroll: true });
    if (isField || event.ctrlKey || event.metaKey || event.altKey || !$("use-keys").checked) return;
    if (!Object.hasOwn(keys, event.key)) return;
    event.preventDefault();
    keys[event.key]();
  }

  function offer(select, values) {
    for (const value of [...new Set(values)].sort()) {
      const option = new Option(value.replaceAll("_", " "), value);
      select.add(option);
    }
  }

  offer($("filter-status"), cases.flatMap((one) => one.statuses));
  offer($("filter-flag"), cases.flatMap((one) => one.flags));
  for (const one of cases) {
    addControls(one);
    draw(one);
    one.section.addEventListener("focusin", () => mark(one));
    one.row.querySelector("a").addEventListener("click", (event) => {
      event.preventDefault();
      go(one);
    });
  }
  const nearby = new IntersectionObserver(
    (entries) => {
      for (const { isIntersecting, target } of entries) if (isIntersecting) reveal(cases[target.dataset.index]);
    },
    { rootMargin: "100% 0px" },
  );
  for (const one of cases) {
    one.section.dataset.index = one.index;
    nearby.observe(one.section);
  }
  for (const name of ["filter-status", "filter-flag", "filter-decision"]) $(name).addEventListener("change", filter);
  $("filter-text").addEventListener("input", filter);
  $("clear").addEventListener("click", clearFilters);
  $("export").addEventListener("click", save);
  $("import").addEventListener("change", (event) => {
    if (event.target.files.length) read(event.target.files[0]);
    event.target.value = "";
  });
  $("print").addEventListener("click", print);
  $("show-prompts").addEventListener("change", (event) =>
    document.body.classList.toggle("hide-prompts", !event.target.checked),
  );
  $("controls").addEventListener("submit", (event) => event.preventDefault());
  $("controls").hidden = false;
  addEventListener("keydown", press);
  addEventListener("beforeprint", () => cases.forEach(reveal));
  drawProgress();
  document.documentElement.dataset.ready = String(Math.round(performance.now()));
})();
