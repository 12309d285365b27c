// Conversation: a part that was cut is loaded in its place, a link to a folded part opens it, the curl command is copied.
(() => {
  "use strict";
  const { copy, say } = globalThis.claudeProxy;
  const page = document.documentElement.dataset;

  async function answerOf(link) {
    const answer = await fetch(link.href, { cache: "no-store" });
    if (!answer.ok) throw new Error(String(answer.status));
    return answer.text();
  }
  for (const link of document.querySelectorAll("a[data-all]")) {
    link.addEventListener("click", async (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      try {
        const whole = new DOMParser().parseFromString(await answerOf(link), "text/html").getElementById("text");
        const place = link.closest(".part").querySelector(".said");
        place.textContent = whole.textContent;
        link.parentElement.remove();
        place.focus();
      } catch {
        location.assign(link.href);
      }
    });
  }
  for (const link of document.querySelectorAll("a[data-curl]")) {
    const label = link.textContent;
    link.addEventListener("click", async (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      try {
        await copy(await answerOf(link));
        link.textContent = page.copied;
        link.dataset.done = "";
        setTimeout(() => {
          link.textContent = label;
          delete link.dataset.done;
        }, 1600);
      } catch {
        say(page.lost);
      }
    });
  }
  function reveal() {
    const target = document.getElementById(location.hash.slice(1));
    if (target?.matches("details")) target.open = true;
  }
  addEventListener("hashchange", reveal);
  reveal();
})();
