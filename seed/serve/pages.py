"""The pages of `seed serve`, with small scripts of ours alone: their policy names the digests."""
import base64
import hashlib
from collections.abc import Sequence

from seed.evaluation.html_page import STYLE, document, encoded, text
from seed.serve.http_server import Response

HTML = "text/html; charset=utf-8"
ICON = '<link rel="icon" href="data:,">'   # so that no browser asks for one
LINKS = (("Panel", "/"), ("Chat", "/chat"), ("Report", "/report"))

PANEL_SCRIPT = """
const panel = document.getElementById("panel"), note = document.getElementById("note");
async function refresh() {
  try {
    const answer = await fetch("/panel");
    if (!answer.ok) throw new Error(answer.status);
    panel.innerHTML = await answer.text();
    note.textContent = "";
  } catch (error) {
    note.textContent = "No answer from seed serve: this is how it was.";
  }
  setTimeout(refresh, document.hidden ? 15000 : 2000);
}
setTimeout(refresh, 2000);
"""
CHAT_SCRIPT = """
const log = document.getElementById("log"), form = document.getElementById("form");
const question = document.getElementById("question"), token = document.getElementById("token");
const button = document.getElementById("ask");
if (location.hash.length > 1) {
  sessionStorage.setItem("token", location.hash.slice(1));
  history.replaceState(null, "", location.pathname);
}
token.value = sessionStorage.getItem("token") || "";
document.getElementById("key").hidden = token.value !== "";
function add(name, words) {
  const row = log.appendChild(document.createElement("p"));
  row.className = name;
  row.textContent = words;
  row.scrollIntoView({block: "nearest"});
  return row;
}
for (const example of document.querySelectorAll(".example"))
  example.onclick = () => { question.value = example.textContent; question.focus(); };
form.onsubmit = async event => {
  event.preventDefault();
  if (!question.value || button.disabled) return;
  sessionStorage.setItem("token", token.value);
  add("question", question.value);
  const row = add("answer", "…");
  button.disabled = true;
  try {
    const answer = await fetch("/ask", {method: "POST", body: JSON.stringify(
      {question: question.value}), headers: {Authorization: "Bearer " + token.value}});
    const fields = await answer.json();
    row.textContent = answer.ok ? fields.line : fields.error.message;
    row.className = answer.ok ? fields.mark : "bad";
    document.getElementById("key").hidden = answer.status !== 401;
  } catch (error) {
    row.textContent = "No answer from seed serve.";
    row.className = "bad";
  }
  button.disabled = false;
  question.value = "";
  question.focus();
};
"""
CHAT = """<h1>Chat</h1><p class="note">One question at a time; the brain remembers none of those
before.</p><p>{examples}</p><div id="log" aria-live="polite"></div>
<form id="form"><p id="key" hidden><label for="token">Token, which seed serve has printed</label>
<input id="token" type="password" autocomplete="off"></p>
<label for="question">Question</label>
<p class="ask"><input id="question" autocomplete="off" autocapitalize="off" spellcheck="false"
maxlength="4096" autofocus><button id="ask">Ask</button></p></form>"""


def digest(content: str) -> str:
    """As a policy names what may be used."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


def policy(script: str = "") -> str:
    """Nothing from elsewhere, and of this server only its style, the script and what that asks."""
    scripts = f"script-src {digest(script)}; connect-src 'self'; " if script else ""
    return (f"default-src 'none'; style-src {digest(STYLE)}; img-src data:; {scripts}"
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'")


def nav(here: str) -> str:
    links = (f'<a href="{path}"{" aria-current=page" if path == here else ""}>{name}</a>'
             for name, path in LINKS)
    return f"<nav>{''.join(links)}</nav>"


def _page(title: str, here: str, content: str, script: str) -> Response:
    ending = f"<script>{script}</script>"
    return Response(encoded(document(title, nav(here) + content + ending, ICON)), HTML,
                    policy=policy(script))


def panel_page(name: str, content: str) -> Response:
    return _page(name, "/", f'<h1>{text(name)}</h1><p class="note" id="note"></p>'
                 f'<div id="panel">{content}</div>', PANEL_SCRIPT)


def panel_part(content: str) -> Response:
    return Response(encoded(content), HTML)


def chat_page(name: str, examples: Sequence[str]) -> Response:
    buttons = " ".join(f'<button class="example" type="button">{text(example)}</button>'
                       for example in examples)
    return _page(f"{name}: chat", "/chat", CHAT.format(examples=buttons), CHAT_SCRIPT)


def report_page(content: str) -> Response:
    return Response(encoded(content), HTML, policy=policy())
