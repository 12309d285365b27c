// Usage: the viewer's own days, and a form that is sent when something is chosen.
(() => {
  "use strict";
  const here = new URL(location.href);
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  if (zone && !here.searchParams.has("timezone")) {
    here.searchParams.set("timezone", zone);
    location.replace(here);
    return;
  }
  for (const form of document.querySelectorAll("[data-choices]")) {
    form.dataset.live = "";
    form.addEventListener("change", (event) => {
      // A longer time has longer periods, unless one was chosen for it.
      if (event.target.name === "since") form.elements.period.disabled = true;
      form.submit();
    });
  }
})();
