(async () => {
  "use strict";
  const target = document.getElementById("docs");
  const page = target.dataset.page;
  // The address bar has the prefix even if a front proxy did not tell the server.
  const here = location.origin + location.pathname.slice(0, location.pathname.lastIndexOf(`/${page}`));
  for (const link of document.querySelectorAll(".home a")) link.href = `${here}/${link.dataset.to}`;

  let spec;
  try {
    const answer = await fetch(`${here}/openapi.json`);
    if (!answer.ok) throw new Error(`it answered ${answer.status}`);
    spec = await answer.json();
  } catch (error) {
    target.className = "failed";
    target.textContent = `The description of the API could not be read from ${here}/openapi.json: ${error.message}.`;
    return;
  }
  spec.servers = [{ url: here }];
  if (page === "docs") {
    const dark = matchMedia("(prefers-color-scheme: dark)");
    const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
    dark.addEventListener("change", follow);
    follow();
    globalThis.SwaggerUIBundle({
      spec,
      domNode: target,
      deepLinking: true,
      validatorUrl: null,
      defaultModelsExpandDepth: -1,
      presets: [globalThis.SwaggerUIBundle.presets.apis],
    });
  } else {
    globalThis.Redoc.init(spec, { hideDownloadButton: true, disableSearch: true, nativeScrollbars: true }, target);
  }
})();
