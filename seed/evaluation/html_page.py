"""The frame of every page: one file without scripts or anything from elsewhere, light or dark, for
a wide screen and for a phone."""
import html
from collections.abc import Sequence

from seed.terminal_text import escaped

STYLE = """
:root{color-scheme:light dark;--back:#f6f7f9;--card:#fff;--text:#1b2027;--dim:#5a6470;
--edge:#d9dee4;--bar:#e8ecf0;--accent:#1668a8;--good:#16794c;--bad:#b3261e;
--c0:#1668a8;--c1:#c2570c;--c2:#16794c;--c3:#8a3ab9;--c4:#b3261e;--c5:#6b6b00}
@media(prefers-color-scheme:dark){:root{--back:#14181d;--card:#1d232a;--text:#e6eaee;--dim:#9ba6b2;
--edge:#38424d;--bar:#2c353f;--accent:#6cb6f0;--good:#5ccb93;--bad:#ff8a80;
--c0:#6cb6f0;--c1:#f5a35c;--c2:#5ccb93;--c3:#cf9af0;--c4:#ff8a80;--c5:#d6d05a}}
*{box-sizing:border-box}
body{margin:0;background:var(--back);color:var(--text);font:16px/1.5 system-ui,sans-serif;
overflow-wrap:anywhere}
main{max-width:66rem;margin:0 auto;padding:1rem}
h1{font-size:1.6rem;line-height:1.2;margin:.5rem 0}
h2{font-size:1.25rem;margin:2rem 0 .25rem}h3{font-size:1.05rem;margin:1.25rem 0 .5rem}
h4{font-size:1rem;margin:0;display:flex;justify-content:space-between;gap:1rem}
p{margin:.25rem 0 .75rem}.note,figcaption .note{color:var(--dim)}a{color:var(--accent)}
nav{display:flex;flex-wrap:wrap;gap:.25rem 1.25rem}nav a{padding:.4rem 0}
nav [aria-current]{color:var(--text);font-weight:600;text-decoration:none}
input,button{font:inherit;color:inherit;background:var(--card);border:1px solid var(--dim);
border-radius:.4rem;padding:.45rem .7rem;min-height:2.75rem;max-width:100%}
button{cursor:pointer}button:disabled{opacity:.5}.ask{display:flex;gap:.5rem}
.ask input{flex:1;min-width:0}.example{font-family:ui-monospace,monospace}
#log p{padding:.4rem .7rem;border-radius:.5rem;white-space:pre-wrap;max-width:85%;
width:fit-content;background:var(--card);border:1px solid var(--edge)}
#log .question{margin-left:auto;background:var(--bar)}
.grid{display:grid;gap:.75rem;grid-template-columns:repeat(auto-fill,minmax(min(100%,18rem),1fr))}
.facts{grid-template-columns:repeat(auto-fill,minmax(min(100%,9.5rem),1fr));margin:0 0 .75rem}
.plots{grid-template-columns:repeat(auto-fill,minmax(min(100%,24rem),1fr))}
.card,.facts>div,figure{background:var(--card);border:1px solid var(--edge);border-radius:.5rem;
padding:.6rem .8rem;margin:0;min-width:0}
dt{color:var(--dim);font-size:.85rem}dd{margin:0;font-weight:600}
.big dd{font-size:1.5rem;line-height:1.2}
figcaption{font-weight:600}
svg{display:block;width:100%;height:auto}
.plot text{font:14px system-ui,sans-serif;fill:var(--dim)}
.axis{stroke:var(--dim)}.rule{stroke:var(--edge)}
.mark{stroke:var(--dim);stroke-dasharray:3 3}.plot .marked{fill:var(--text);font-weight:600}
.line,.diagonal{fill:none;stroke-width:2;stroke-linejoin:round}
.diagonal{stroke:var(--dim);stroke-width:1}.dashed{stroke-dasharray:6 3}
line.c0,polyline.c0{stroke:var(--c0)}polyline.c1{stroke:var(--c1)}polyline.c2{stroke:var(--c2)}
polyline.c3{stroke:var(--c3)}polyline.c4{stroke:var(--c4)}polyline.c5{stroke:var(--c5)}
circle.c0{fill:var(--c0)}circle.c1{fill:var(--c1)}circle.c2{fill:var(--c2)}
circle.c3{fill:var(--c3)}circle.c4{fill:var(--c4)}circle.c5{fill:var(--c5)}
.legend{list-style:none;display:flex;flex-wrap:wrap;gap:.1rem 1rem;margin:.25rem 0 0;padding:0;
font-size:.85rem}.legend li{display:flex;align-items:center;gap:.4rem}.key{width:20px;flex:none}
.bar{height:14px;margin:.3rem 0 .5rem}.back{fill:var(--bar)}.value{fill:var(--accent)}
.whisker,.chance{fill:var(--text)}
.examples{list-style:none;margin:.3rem 0;padding:0;font-size:.9rem}
code{font-family:ui-monospace,monospace;font-size:.95em;white-space:pre-wrap}
.good{color:var(--good)}.bad{color:var(--bad)}
summary{cursor:pointer;color:var(--accent);min-height:1.75rem}
.scroll{overflow-x:auto}table{overflow-wrap:normal;border-collapse:collapse;font-size:.9rem}
td,th{padding:.2rem .5rem;text-align:right;vertical-align:top;
border-bottom:1px solid var(--edge)}td:first-child,th:first-child{text-align:left;padding-left:0}
td:last-child,th:last-child{padding-right:0}
.card table{font-size:.8rem}.card td,.card th{padding:.2rem .25rem}
@media(max-width:30rem){table{font-size:.8rem}td,th{padding:.2rem .3rem}}
"""
MAX_CELL_CHARS = 120


def text(value: object) -> str:
    """As text of a page, whatever is in it."""
    return html.escape(escaped(str(value)))


def document(title: str, content: str, head: str = "") -> str:
    """`content` and `head` are HTML."""
    return (f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            f'<meta name="viewport" content="width=device-width,initial-scale=1">'
            f'<meta name="color-scheme" content="light dark"><title>{text(title)}</title>'
            f'<style>{STYLE}</style>{head}</head><body><main>{content}</main></body></html>\n')


def encoded(page: str) -> bytes:
    """Names of files may have bytes that are no text."""
    return page.encode("utf-8", "backslashreplace")


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """It scrolls by itself where it is wider than the page."""
    def cells(row: Sequence[object], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{text(str(cell)[:MAX_CELL_CHARS])}</{tag}>"
                                for cell in row) + "</tr>"
    return (f'<div class="scroll"><table>{cells(head, "th")}'
            f'{"".join(cells(row, "td") for row in rows)}</table></div>')


def section(title: str, note: str, content: str) -> str:
    """Nothing without content."""
    if not content:
        return ""
    line = f'<p class="note">{text(note)}</p>' if note else ""
    return f"<section><h2>{text(title)}</h2>{line}{content}</section>"


def folded(title: str, content: str) -> str:
    return f"<details><summary>{text(title)}</summary>{content}</details>"


def facts(rows: Sequence[tuple[str, str]], is_big: bool = False) -> str:
    """A card for each (name, value)."""
    cards = "".join(f"<div><dt>{text(name)}</dt><dd>{text(value)}</dd></div>"
                    for name, value in rows)
    return f'<dl class="grid facts{" big" if is_big else ""}">{cards}</dl>'


def code(value: str, name: str = "") -> str:
    """Bytes of a question or an answer."""
    return f'<code{f" class={name}" if name else ""}>{text(value)}</code>'
