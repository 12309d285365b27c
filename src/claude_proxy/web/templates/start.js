(() => {
  "use strict";
  const page = document.documentElement.dataset;
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  // The address bar knows the scheme and the prefix even where a front proxy did not tell the server.
  const here = location.origin + location.pathname.replace(/\/+$/, "");
  for (const link of all("nav a")) link.href = `${here}/${link.dataset.to}`;
  for (const spot of all("[data-address]")) spot.textContent = here + document.querySelector("main").dataset.prefix;

  async function copy(text) {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Plain http on a name other than localhost has no clipboard API.
      const field = document.createElement("textarea");
      field.value = text;
      field.setAttribute("readonly", "");
      field.style.position = "fixed";
      field.style.opacity = "0";
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
  for (const button of all("[data-copy]")) {
    offerCopy(button, () => document.getElementById(button.dataset.copy));
  }

  // Without this script the blocks stand below one another; with it they become tabs (WAI-ARIA, tabs pattern).
  function tabs(group, first) {
    const blocks = all(".block", group);
    const list = document.createElement("div");
    list.className = "tablist";
    list.setAttribute("role", "tablist");
    list.setAttribute("aria-labelledby", group.parentElement.getAttribute("aria-labelledby"));
    const buttons = blocks.map((block) => {
      const button = document.createElement("button");
      const name = block.querySelector("h3").textContent;
      Object.assign(button, { type: "button", id: `tab-${block.id}`, textContent: name });
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

  const state = document.getElementById("state");
  function show(name, text) {
    if (state.dataset.state === name) return;
    state.dataset.state = name;
    document.getElementById("state-text").textContent = text;
    document.title = `claude-proxy · ${text}`;
  }
  async function look() {
    if (document.hidden) return;
    try {
      const answer = await fetch(`${here}/ready`, { cache: "no-store" });
      const { status } = await answer.json();
      if (status === "ready") show("ready", page.running);
      else show("draining", page.draining);
    } catch {
      show("lost", page.lost);
    }
  }
  setInterval(look, 10000);
  document.addEventListener("visibilitychange", look);
})();
