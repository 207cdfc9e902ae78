"use strict";
// Shows the choice in a dialog of the page that includes this script, when it is due:
//
//   <script src="/_chatproxy/choice.js" defer></script>
//
// The words are the notice's, in the language of the page. Nothing is chosen beforehand; closing the dialog records
// nothing. What was chosen is told by the event "chatproxy:choice" on the document, with detail.choice.
(() => {
  const base = new URL("./", document.currentScript.src);
  const language = document.documentElement.lang || navigator.language || "en";
  const own = {
    en: {
      yes: "If you say yes",
      no: "If you say no",
      close: "Close without choosing",
      failed: "Your choice could not be recorded. Nothing has changed; please try again.",
      more: "All about your conversations",
    },
    fr: {
      yes: "Si vous dites oui",
      no: "Si vous dites non",
      close: "Fermer sans choisir",
      failed: "Votre choix n’a pas pu être enregistré. Rien n’a changé ; veuillez réessayer.",
      more: "Tout sur vos conversations",
    },
  };
  const style = `
    :host { color-scheme: light dark; --card: #fff; --ink: #1b2130; --soft: #545e70; --line: #d5dae3;
            --accent: #1d4f91; --accent-ink: #fff; --accent-strong: #163d70; --danger: #a3231c; }
    @media (prefers-color-scheme: dark) {
      :host { --card: #1a1f28; --ink: #e7eaf0; --soft: #a5afbf; --line: #343c4a;
              --accent: #9cc2f7; --accent-ink: #0e1a2b; --accent-strong: #bcd6fa; --danger: #ff9d94; }
    }
    *, *::before, *::after { box-sizing: border-box; }
    dialog { width: min(44rem, calc(100vw - 2rem)); max-height: calc(100dvh - 2rem); overflow: auto; padding: 1.5rem;
             border: 1px solid var(--line); border-radius: 0.75rem; background: var(--card); color: var(--ink);
             font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif;
             overflow-wrap: break-word; }
    dialog::backdrop { background: rgb(10 14 20 / 55%); }
    .inside { display: grid; gap: 0.875rem; }
    h2, h3, p { margin: 0; line-height: 1.3; }
    p { line-height: 1.55; }
    h2 { font-size: 1.375rem; text-wrap: balance; }
    h2:focus { outline: none; }
    h3 { font-size: 1rem; }
    .question { font-size: 1.125rem; font-weight: 600; }
    .meanings, .answers { display: grid; gap: 0.75rem; }
    .meanings { grid-template-columns: repeat(auto-fit, minmax(min(15rem, 100%), 1fr)); }
    .answers { grid-template-columns: repeat(auto-fit, minmax(min(11rem, 100%), 1fr)); }
    .meanings section { border: 1px solid var(--line); border-radius: 0.5rem; padding: 0.75rem 1rem; }
    button { font: inherit; min-height: 2.75rem; border-radius: 0.5rem; cursor: pointer; padding: 0.5rem 1rem; }
    .answers button { font-weight: 600; border: 2px solid var(--accent); background: var(--accent); color: var(--accent-ink); }
    .answers button:hover { background: var(--accent-strong); border-color: var(--accent-strong); }
    .last { display: flex; flex-wrap: wrap; gap: 0.25rem 1rem; align-items: center; justify-content: space-between; }
    .close { border: 0; background: none; color: var(--soft); text-decoration: underline; padding: 0.5rem 0; }
    a { color: var(--accent); }
    :focus-visible { outline: 3px solid var(--accent); outline-offset: 3px; border-radius: 0.25rem; }
    [role=alert]:empty { display: none; }
    [role=alert] { color: var(--danger); font-weight: 600; }
  `;

  const element = (name, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  };

  const call = async (path, options = {}) => {
    const response = await fetch(new URL(`api/v1/${path}`, base), { credentials: "include", ...options });
    const text = await response.text();
    if (!response.ok) throw new Error(String(response.status));
    return JSON.parse(text);
  };

  const record = (answer, notice, token) => call("choice", {
    method: "PUT",
    headers: { "Content-Type": "application/json", "X-Chat-CSRF": token },
    body: JSON.stringify({
      choice: answer, method: `button:${answer}`, screen: "popup", language: notice.language,
    }),
  });

  const show = (notice, token) => {
    const words = own[notice.language.split("-")[0]] ?? own.en;
    const host = element("div");
    const root = host.attachShadow({ mode: "open" });
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(style);
    root.adoptedStyleSheets = [sheet];

    const problem = element("p", { role: "alert" });
    const title = element("h2", { id: "title", tabIndex: -1, autofocus: true, textContent: notice.title });
    const answers = notice.due.may_defer ? ["yes", "no", "later"] : ["yes", "no"];
    const buttons = answers.map((answer) => {
      const button = element("button", { type: "button", textContent: notice[answer] });
      button.addEventListener("click", async () => {
        problem.textContent = "";
        try {
          await record(answer, notice, token);
        } catch {
          problem.textContent = words.failed;
          return;
        }
        dialog.close();
        document.dispatchEvent(new CustomEvent("chatproxy:choice", { detail: { choice: answer } }));
      });
      return button;
    });
    const close = element("button", { type: "button", className: "close", textContent: words.close });
    const meaning = (heading, text) =>
      element("section", {}, element("h3", { textContent: heading }), element("p", { textContent: text }));
    const dialog = element("dialog", { lang: notice.language },
      element("div", { className: "inside" },
        title,
        ...notice.paragraphs.map((text) => element("p", { textContent: text })),
        element("p", { className: "question", id: "question", textContent: notice.question }),
        element("div", { className: "meanings" }, meaning(words.yes, notice.if_yes), meaning(words.no, notice.if_no)),
        problem,
        element("div", { className: "answers", role: "group", ariaLabel: notice.question }, ...buttons),
        element("div", { className: "last" },
          element("a", { href: base.href, textContent: words.more }), close)));
    dialog.setAttribute("aria-labelledby", "title");
    close.addEventListener("click", () => dialog.close());
    dialog.addEventListener("close", () => host.remove());
    root.append(dialog);
    document.body.append(host);
    dialog.showModal();
  };

  const ask = async () => {
    const notice = await call(`notice?language=${encodeURIComponent(language)}`);
    if (notice.due.state !== "due" && notice.due.state !== "overdue") return;
    const session = await call("session");
    if (session.can_manage) show(notice, session.csrf);
  };

  // Whatever goes wrong here, the page that includes this goes on.
  ask().catch(() => {});
})();
