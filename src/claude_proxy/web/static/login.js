// The link in the proxy's log ends in #code=...: put the code into the form, take it out of the address, and send the form.
(() => {
  "use strict";
  function enter() {
    const code = new URLSearchParams(location.hash.slice(1)).get("code");
    if (!code) return;
    history.replaceState(null, "", location.pathname + location.search);
    const field = document.getElementById("secret");
    field.type = "hidden"; // so that no password manager offers to keep a code that is used up
    field.value = code;
    field.form.submit();
  }
  addEventListener("hashchange", enter); // a new link, opened in the tab that shows this page
  enter();
})();
