// Now, live: starts the event stream, keeps it alive, and puts changed rows in their place without touching the others.
(() => {
  "use strict";
  const { ahead, language, localise, look, say } = globalThis.claudeProxy;
  const page = document.documentElement.dataset;
  const stream = document.getElementById("live");
  const SILENCE = 25_000; // the server sends something every 10 s
  let heard = performance.now();
  let api;

  // The swap "rows": rows with a known id are morphed, others inserted by their sort key (the largest first), those marked
  // data-gone removed. A row inside a selection is left alone until the selection is gone.
  const leaving = new Set();
  let followed = "";
  // Asked once per update: to know whether a selection is empty, the browser has to lay the page out.
  function selected() {
    const selection = getSelection();
    return selection.isCollapsed ? null : selection;
  }
  const isIn = (selection, row) => selection !== null && selection.containsNode(row, true);
  const isBefore = (a, b) => a.length > b.length || (a.length === b.length && a > b);
  function insert(body, row) {
    const next = [...body.children].find((other) => isBefore(row.dataset.sort, other.dataset.sort));
    body.insertBefore(row, next ?? null);
  }
  function remove(row, selection) {
    if (!row) return;
    if (isIn(selection, row)) return void leaving.add(row);
    // The focus goes with a running row to the finished one, which may come with this update or a later one.
    if (row.contains(document.activeElement)) followed = row.id.replace(/^r-/, "f-");
    row.remove();
    leaving.delete(row);
  }
  function follow() {
    const row = followed && document.getElementById(followed);
    if (!row) return;
    followed = "";
    if (document.activeElement === document.body) row.querySelector("a.row")?.focus({ preventScroll: true });
  }
  htmx.registerExtension("rows", {
    init: (internal) => void (api = internal),
    handle_swap: (style, body, fragment) => {
      if (style !== "rows") return false;
      const selection = selected();
      for (const row of [...leaving]) remove(row, selection);
      const inserted = [];
      for (const row of [...fragment.children]) {
        const known = document.getElementById(row.id);
        if (row.hasAttribute("data-gone")) remove(known, selection);
        else if (!known) {
          insert(body, row);
          inserted.push(row);
        } else if (!isIn(selection, known)) {
          const one = document.createDocumentFragment();
          one.append(row);
          api.morph(known, one, false);
        }
      }
      return inserted;
    },
  });
  document.addEventListener("selectionchange", () => {
    if (leaving.size === 0) return;
    const selection = selected();
    for (const row of [...leaving]) remove(row, selection);
  });

  // Times that pass: the server names the moment, we count.
  const units = language === "ko" ? { d: "일", h: "시간", m: "분", s: "초" } : { d: " d", h: " h", m: " min", s: " s" };
  function span(ms) {
    const s = Math.max(0, Math.floor(ms / 1000));
    if (s < 60) return `${s}${units.s}`;
    if (s < 3600) return `${Math.floor(s / 60)}${units.m} ${s % 60}${units.s}`;
    if (s < 86400) return `${Math.floor(s / 3600)}${units.h} ${Math.floor((s % 3600) / 60)}${units.m}`;
    return `${Math.floor(s / 86400)}${units.d} ${Math.floor((s % 86400) / 3600)}${units.h}`;
  }
  function tickClocks() {
    const now = Date.now() + ahead.ms;
    for (const clock of document.querySelectorAll("[data-since]")) {
      const shown = span(now - Number(clock.dataset.since));
      if (clock.textContent !== shown) clock.textContent = shown;
    }
  }
  tickClocks();
  setInterval(() => document.hidden || tickClocks(), 1000);
  document.addEventListener("htmx:after:swap", () => {
    localise();
    tickClocks();
    follow();
  });

  // What comes besides rows.
  stream.addEventListener("beat", (event) => {
    const beat = JSON.parse(event.detail.data);
    ahead.ms = beat.now - Date.now();
    if (beat.exchanges && stream.hasAttribute("data-waiting")) location.reload();
  });
  stream.addEventListener("charts", (event) => {
    const charts = JSON.parse(event.detail.data);
    for (const [id, data] of Object.entries(charts)) {
      const place = document.querySelector(`#${id} .plot`);
      if (place && globalThis.drawLines) drawLines(place, JSON.parse(data));
    }
  });

  // The stream starts when the page is seen, again after an error (a first 503 would never be retried), and again when it has
  // been silent for too long (a laptop that slept, a network that changed).
  const start = () => {
    if (document.hidden || stream._htmx?.sse) return;
    heard = performance.now();
    htmx.trigger(stream, "live");
  };
  const later = () => setTimeout(start, 3000);
  document.addEventListener("htmx:sse:before:message", () => {
    heard = performance.now();
  });
  document.addEventListener("htmx:sse:after:connection", () => {
    heard = performance.now();
    say("");
    look();
  });
  document.addEventListener("htmx:sse:error", (event) => say(event.detail.status === 401 ? page.loggedOut : page.lost));
  document.addEventListener("htmx:error", later);
  document.addEventListener("htmx:response:error", later);
  document.addEventListener("htmx:sse:close", later);
  document.addEventListener("visibilitychange", start);
  setInterval(() => {
    if (!document.hidden && performance.now() - heard > SILENCE) {
      heard = performance.now();
      stream._htmx?.sse?.reader?.cancel();
      start();
    }
  }, 5000);
  if (document.readyState === "complete") start();
  else addEventListener("load", start);
})();
