// What every view needs: addresses, local times, rows as links, copying, tabs, keys, and the mark of trouble in the title.
(() => {
  "use strict";
  const html = document.documentElement;
  const page = html.dataset;
  const language = html.lang;
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const byId = (id) => document.getElementById(id);
  const home = new URL(page.root || "./", location.href).href.replace(/\/+$/, "");

  // Times: the server writes UTC, the viewer reads their own. Relative ones are written again every half minute.
  const forms = {
    time: new Intl.DateTimeFormat(language, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" }),
    date: new Intl.DateTimeFormat(language, { year: "numeric", month: "short", day: "numeric" }),
    full: new Intl.DateTimeFormat(language, { year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23" }),
  };
  const exact = new Intl.DateTimeFormat(language, { dateStyle: "full", timeStyle: "long" });
  const relative = new Intl.RelativeTimeFormat(language, { numeric: "auto" });
  const ahead = { ms: Number(page.now) - Date.now() }; // how far the proxy's clock is ahead of ours
  function ago(at) {
    const seconds = Math.round((at - Date.now() - ahead.ms) / 1000);
    for (const [unit, size] of [["day", 86400], ["hour", 3600], ["minute", 60]]) {
      if (Math.abs(seconds) >= size) return relative.format(Math.trunc(seconds / size), unit);
    }
    return relative.format(seconds, "second");
  }
  function localise(root = document) {
    for (const spot of all("time[datetime]", root)) {
      const at = new Date(spot.dateTime);
      const form = spot.dataset.form;
      const shown = form === "ago" ? ago(at) : forms[form].format(at);
      if (spot.textContent !== shown) spot.textContent = shown;
      if (!spot.title) spot.title = exact.format(at);
    }
  }
  localise();
  setInterval(() => localise(), 30_000);

  // The address bar knows the scheme and the prefix even where a front proxy did not tell the server.
  const prefix = document.querySelector("[data-prefix]")?.dataset.prefix ?? "";
  for (const spot of all("[data-address]")) spot.textContent = home + prefix;

  // Rows are links as a whole; selecting text in one, and links inside it, work as ever.
  document.addEventListener("click", (event) => {
    const row = event.target.closest?.("tr[data-row]");
    if (!row || event.target.closest("a, button, summary, input") || String(getSelection())) return;
    const link = row.querySelector("a.row");
    if (event.ctrlKey || event.metaKey) open(link.href, "_blank");
    else link?.click();
  });

  // A form that takes a while says so, and is sent once.
  for (const form of all("form[data-busy]")) {
    form.addEventListener("submit", () => {
      const button = form.querySelector("button");
      button.textContent = form.dataset.busy;
      button.disabled = true;
    });
  }

  // A page that cannot be shown yet asks in the background and loads itself once it can, so that nothing flashes meanwhile.
  const again = document.querySelector("[data-again]");
  async function tryAgain() {
    try {
      const answer = await fetch(location.href, { method: "HEAD", cache: "no-store", headers: { accept: "text/html" } });
      if (answer.status !== 503) return void location.reload();
    } catch {
      // The proxy restarts.
    }
    setTimeout(tryAgain, 1000 * again.dataset.again);
  }
  if (again) setTimeout(tryAgain, 1000 * again.dataset.again);

  async function copy(text) {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Plain http on a name other than localhost has no clipboard API.
      const field = document.createElement("textarea");
      field.value = text;
      field.readOnly = true;
      field.className = "unseen";
      document.body.append(field);
      field.select();
      document.execCommand("copy");
      field.remove();
    }
  }
  function offerCopy(button, source) {
    const label = button.textContent;
    let timer;
    button.hidden = false;
    button.addEventListener("click", async () => {
      await copy(source().textContent.trim());
      button.textContent = page.copied;
      button.dataset.done = "";
      clearTimeout(timer);
      timer = setTimeout(() => {
        button.textContent = label;
        delete button.dataset.done;
      }, 1600);
      button.focus();
    });
  }
  for (const button of all("[data-copy]")) offerCopy(button, () => byId(button.dataset.copy));

  // Without this script the blocks stand below one another; with it they become tabs (WAI-ARIA, tabs pattern).
  function tabs(group, first) {
    const blocks = all(".block", group);
    const list = document.createElement("div");
    list.className = "tablist";
    list.setAttribute("role", "tablist");
    list.setAttribute("aria-labelledby", group.closest("[aria-labelledby]").getAttribute("aria-labelledby"));
    const buttons = blocks.map((block) => {
      const button = document.createElement("button");
      Object.assign(button, { type: "button", id: `tab-${block.id}`, textContent: block.querySelector("h3").textContent });
      button.setAttribute("role", "tab");
      button.setAttribute("aria-controls", block.id);
      block.setAttribute("role", "tabpanel");
      block.setAttribute("aria-labelledby", button.id);
      list.append(button);
      return button;
    });
    const select = (index, focus) => {
      buttons.forEach((button, at) => {
        button.setAttribute("aria-selected", String(at === index));
        button.tabIndex = at === index ? 0 : -1;
        blocks[at].hidden = at !== index;
      });
      if (focus !== undefined) buttons[index].scrollIntoView({ block: "nearest", inline: "nearest" });
      if (focus) buttons[index].focus();
    };
    buttons.forEach((button, at) => button.addEventListener("click", () => select(at, false)));
    list.addEventListener("keydown", (event) => {
      const at = buttons.indexOf(document.activeElement);
      const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: buttons.length - 1 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      select((to + buttons.length) % buttons.length, true);
    });
    const bar = document.createElement("div");
    bar.className = "tabs";
    const button = blocks[0].querySelector("[data-copy]").cloneNode(true);
    button.className = "copy";
    bar.append(list, button);
    group.prepend(bar);
    group.classList.add("tabbed");
    offerCopy(button, () => blocks.find((block) => !block.hidden).querySelector("code"));
    select(Math.max(0, blocks.findIndex((block) => block.id === first)));
  }
  const shell = navigator.userAgent.includes("Windows") ? "powershell" : "sh";
  for (const group of all(".group")) tabs(group, shell);

  // Keys: "/" searches, "g" and a letter goes to a view, "j" and "k" move over rows, "?" lists them.
  const views = { n: "now", s: "sessions", u: "usage", p: "upstreams", e: "settings" };
  const keys = byId("keys");
  let going = 0;
  const showKeys = byId("show-keys");
  showKeys.hidden = false;
  showKeys.addEventListener("click", () => keys.showModal());
  function move(step) {
    const links = all("tr[data-row] a.row");
    const at = links.findIndex((link) => link.closest("tr").contains(document.activeElement));
    const next = links[at < 0 ? (step > 0 ? 0 : links.length - 1) : Math.min(links.length - 1, Math.max(0, at + step))];
    next?.focus();
    next?.scrollIntoView({ block: "nearest" });
  }
  const actions = {
    "/": () => byId("q").select(),
    "?": () => keys.showModal(),
    j: () => move(1),
    k: () => move(-1),
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || keys.open) return;
    if (event.target.closest?.("input, textarea, select, [contenteditable]")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    const view = event.timeStamp - going < 1500 ? views[event.key] : undefined;
    going = event.key === "g" ? event.timeStamp : -Infinity;
    const action = view ? () => document.querySelector(`[data-view="${view}"]`).click() : actions[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });

  // Usage counts in the viewer's days: its link names their time zone.
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  for (const link of all('[data-view="usage"]')) link.search = zone ? `?timezone=${encodeURIComponent(zone)}` : "";

  // Trouble shows in the title and the icon, also of a background tab, where the event stream rests.
  const icon = document.querySelector("link[rel=icon]");
  const calm = { title: document.title, icon: icon.href };
  const banner = byId("banner");
  function say(text) {
    banner.textContent = text;
    banner.hidden = !text;
  }
  async function look() {
    let trouble = true;
    try {
      const answer = await fetch(`${home}/trouble`, { cache: "no-store" });
      if (answer.status === 401) say(page.loggedOut);
      else {
        trouble = (await answer.json()).trouble;
        say("");
      }
    } catch {
      say(page.lost);
    }
    document.title = trouble ? `● ${calm.title}` : calm.title;
    icon.href = trouble ? icon.dataset.alert : calm.icon;
    html.dataset.state = trouble ? "trouble" : "calm";
  }
  look();
  setInterval(look, 30_000);
  document.addEventListener("visibilitychange", () => document.hidden || look());

  globalThis.claudeProxy = { ahead, copy, home, language, localise, look, say };
})();
