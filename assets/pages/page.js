// Keeps a page fresh that asks for it: `<main data-live="seconds" data-stale="sentence">`. Without it, the page stays complete.
(() => {
  "use strict";
  const main = document.getElementById("main");
  const seconds = Number(main?.dataset.live);
  if (!seconds) return;
  let tag = null;

  const stale = (is) => {
    let sign = document.getElementById("stale");
    if (!is) return sign?.remove();
    if (sign) return;
    sign = document.createElement("p");
    sign.id = "stale";
    sign.className = "stale";
    sign.setAttribute("role", "status");
    sign.textContent = main.dataset.stale;
    main.before(sign);
  };

  const refresh = async () => {
    const headers = { accept: "text/html" };
    if (tag) headers["if-none-match"] = tag;
    const answer = await fetch(location.href, { headers, cache: "no-store", redirect: "manual", signal: AbortSignal.timeout(20000) });
    // The session has ended: the login is next.
    if (answer.type === "opaqueredirect") return location.reload();
    if (answer.status === 304) return stale(false);
    if (!answer.ok) return stale(true);
    const next = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("main");
    tag = answer.headers.get("etag");
    const focused = main.contains(document.activeElement) ? document.activeElement.id || document.activeElement.getAttribute("href") : null;
    const said = main.querySelector(".said");
    main.replaceChildren(...next.childNodes);
    if (said) main.prepend(said);
    if (focused) {
      const again = document.getElementById(focused) ?? main.querySelector(`a[href="${CSS.escape(focused)}"]`);
      again?.focus({ preventScroll: true });
    }
    stale(false);
    main.dataset.refreshed = String(Number(main.dataset.refreshed ?? 0) + 1);
  };

  const wait = () => setTimeout(async () => {
    if (!document.hidden) await refresh().catch(() => stale(true));
    wait();
  }, seconds * 1000);
  document.addEventListener("visibilitychange", () => document.hidden || refresh().catch(() => stale(true)));
  wait();
})();
