"""Questions about letters, bits, steps, names and marks in other words."""
import random
import re

from seed.curriculum.task import Task, pick
from seed.curriculum.wording_forms import Form, Wordings, replacing

NAMES = ("Ann", "Bob", "Cat", "Tom", "Eve", "Max", "Sam", "Joe", "Mia", "Leo")
SHORT_FRACTION = 0.4    # of the easy booleans, that have two terms
RENAMED_FRACTION = 0.5  # of the stories, in which people have other names, in another order

LETTERS = {"w": Form("[a-z]+")}
COPY = Wordings(
    "copy", "{w}>", "(?P<w>[a-z]+)>", LETTERS,
    ("{w}>", "{w}>?", "{w} ->", "{w} =>", "{w}>:", "{w} >>"),
    ("say {w}.", "say: {w}.", "copy {w}.", "say the word {w}.", "echo {w}.", "write {w}.",
     "repeat after me: {w}.", "type {w}.", "can you say {w}?", "can you copy {w}?",
     "say it after me: {w}.", "copy this: {w}.", "copy the letters {w}.",
     "what is {w} once?", "say {w} once.", "say '{w}'.", 'say "{w}".'))

REPEAT = Wordings(
    "repeat", "{w}&", "(?P<w>[a-z]+)&", LETTERS,
    ("{w}&", "{w}&?", "{w}&:", "{w}&=", "{w} &&"),
    ("say {w} twice.", "repeat {w} twice.", "write {w} twice.", "copy {w} twice.",
     "{w} twice?", "{w} twice.", "twice {w}?", "double {w}.", "say {w} two times.",
     "{w} two times.", "write {w} two times.", "can you say {w} twice?", "say twice: {w}.",
     "what is {w} twice?", "echo {w} twice.", "say {w} 2 times.", "say the word {w} twice."))


def _apart(pattern: str) -> Form:
    """With a space between marks, or none."""
    return Form(pattern, " ".join, lambda text: text.replace(" ", ""))


BITS = {"x": Form("[01]+"), "x:apart": _apart("[01](?: [01])*")}
PARITY = Wordings(
    "parity", "{x}#", "(?P<x>[01]+)#", BITS,
    ("{x}#", "{x}#?", "{x}#=", "{x:apart}#", "{x:apart}#?", "{x}#:"),
    tuple(text.replace("_", form) for form in ("{x}", "{x:apart}") for text in (
        "parity of _?", "what is the parity of _?", "the parity bit of _?",
        "compute the parity of _.", "parity: _?", "_, parity?", "what parity has _?",
        "give me the parity of _.", "number of ones in _, modulo 2?", "find the parity of _.",
        "ones in _ mod 2?", "what is the parity bit of _?")))

MOVES = {"R": "right,", "L": "left,", "S": "stay,"}
STEPS = r"(?:right|left|stay)(?:,(?:right|left|stay))*"
CYCLE = Wordings(
    "cycle", "{x}@", "(?P<x>[LRS]+)@", {
        "x": Form("[lrs]+", str, str.upper),
        "x:apart": Form("[lrs](?: [lrs])*", " ".join,
                        lambda text: text.replace(" ", "").upper()),
        "x:words": Form(STEPS, lambda text: ",".join([MOVES[mark][:-1] for mark in text]),
                        lambda text: "".join([word[0].upper() for word in text.split(",")]))},
    ("{x}@", "{x}@?", "{x:apart}@", "{x}@=", "{x:apart}@?", "{x}@:", "{x:words}@"),
    (*(text.replace("_", form) for form in ("{x}", "{x:words}") for text in (
        "where on the ring after _?", "after _, which place?", "which place after _?",
        "on a ring of five: _. where?", "start at 0, _. which place?", "place after _?",
        "where on a ring of five after _?", "walk the ring: _. where are you?")),
     "{x:words}. where am i?", "{x:words}. where are you?", "{x:words}: which place?",
     "go {x:words}. where are you?", "i go {x:words}. where am i?", "where after {x:words}?"))


def _short_boolean(rng: random.Random, task: Task, level: int) -> str:
    prompt = task.sample_prompt(rng, level)
    if level == 1 and rng.random() < SHORT_FRACTION:
        return "".join(re.findall(r"[&|^]?!?[TF]", prompt)[:2]) + "$"
    return prompt


BOOLEAN = Wordings(
    "boolean", "{x}$", r"(?P<x>!?[TF](?:[&|^]!?[TF])+)\$", {
        "x": Form(r"!?[tf](?:[&|^]!?[tf])+", str, str.upper),
        "x:words": replacing({"T": "true", "F": "false", "!": "not ", "^": " xor ", "|": " or ",
                              "&": " and "}, "(?:not )?(?:true|false)"
                             "(?: (?:and|or|xor) (?:not )?(?:true|false))+")},
    ("{x}$", "{x}$?", "{x}=", "{x}?", "{x:words}?", "{x:words}", "{x:words}=", "{x}$=", "{x}=?",
     "{x:words}$", "{x}$:"),
    tuple(text.replace("_", form) for form in ("{x:words}", "{x}") for text in (
        "what is _?", "is _ true?", "evaluate _.", "is _ true or false?", "_ is?",
        "what does _ give?", "compute _.", "_, true or false?", "what is _", "solve _.",
        "tell me _.", "_ gives?")), _short_boolean)

VALUE = r"(?:[a-z]|\d+)"
STATEMENT = f"[a-z]=(?:{VALUE})(?:[-+]{VALUE})?"
IS = {"=": " is ", "+": " plus ", "-": " minus "}
IS_STATEMENT = f"[a-z] is {VALUE}(?: (?:plus|minus) {VALUE})?"
ASSIGN = Wordings(
    "assign", "{s}{v}=", r"(?P<s>(?:[a-z]=(?:[a-z]|\d+)(?:[+-](?:[a-z]|\d+))?,)+)(?P<v>[a-z])=", {
        "v": Form("[a-z]"), "s": Form(f"(?:{STATEMENT},)+"),
        "s:dots": Form(rf"(?:{STATEMENT}[.;])+", lambda text: text.replace(",", "."),
                       lambda text: re.sub("[.;]", ",", text)),
        "s:open": Form(f"{STATEMENT}(?:,{STATEMENT})*", lambda text: text[:-1],
                       lambda text: text + ","),
        "s:and": Form(f"{STATEMENT}(?: and {STATEMENT})*",
                      lambda text: text[:-1].replace(",", " and "),
                      lambda text: text.replace(" and ", ",") + ","),
        "s:is": replacing(IS, f"(?:{IS_STATEMENT},)+")},
    ("{s}{v}=", "{s}{v}=?", "{s}{v}?", "{s:dots}{v}=", "{s:dots}{v}=?", "{s}{v}:"),
    (*(text.replace("_", form) for form in ("{s}", "{s:dots}", "{s:is}") for text in (
        "_ what is {v}?", "_ {v} is?", "_ how much is {v}?", "_ what's {v}?",
        "_ what is the value of {v}?", "_ find {v}.", "given _ what is {v}?",
        "if _ what is {v}?", "let _ what is {v}?", "_ then {v} is?")),
     "what is {v} if {s:open}?", "what is {v} if {s:and}?", "if {s:and}, what is {v}?",
     "how much is {v} if {s:open}?", "given {s:and}, what is {v}?"))


def _pairs(link: str, close: str) -> Form:
    """Of `k:ab,` with other words or marks in the place of `:`, and another last mark."""
    pair = f"[a-z]{link}[a-z]{{2}}"
    return Form(f"{pair}(?:,{pair})*" + re.escape(close),
                lambda text: text.replace(":", link)[:-1] + close,
                lambda text: text.removesuffix(close).replace(link, ":") + ",")


RECALL = Wordings(
    "recall", "{p}{k}:", r"(?P<p>(?:[a-z]:[a-z]{2},)+)(?P<k>[a-z]):", {
        "k": Form("[a-z]"), "p": _pairs(":", ","), "p:is": _pairs(" is ", ","),
        "p:end": _pairs(" is ", "."), "p:open": _pairs(" is ", ""), "p:eq": _pairs("=", ","),
        "p:means": _pairs(" means ", "."), "p:marks": _pairs(":", "."),
        "p:eqend": _pairs("=", ".")},
    ("{p}{k}:", "{p}{k}:?", "{p}{k}?", "{p:marks}{k}:", "{p:eq}{k}:", "{p:marks}{k}?"),
    (*(text.replace("_", form) for form in ("{p}", "{p:is}", "{p:end}", "{p:marks}", "{p:eqend}")
       for text in ("_ what is {k}?", "remember _ what is {k}?", "_ {k} is?", "_ what's {k}?",
                    "if _ what is {k}?", "_ tell me {k}.", "given _ what is {k}?")),
     "what is {k} if {p:open}?", "{p:means} what does {k} mean?", "{p:means} {k} means?",
     "if {p:open}, what is {k}?", "{p:end} which letters has {k}?", "{p:end} and {k}?"))

EVENT = r"[a-z]{3} (?:has|finds|loses|gives [a-z]{3}) \d+\."
PAST = {" has ": " had ", " finds ": " found ", " loses ": " lost ", " gives ": " gave "}


def _told(text: str) -> str:
    """A story with its names and spaces from one in lower case."""
    return re.sub(r"\b[a-z]{3}(?= (?:has|finds|loses|gives))|(?<=gives )[a-z]{3}",
                  lambda name: name[0].title(), text.replace(".", ". "))


def _past(text: str) -> str:
    for now, then in PAST.items():
        text = text.replace(now, then)
    return text


def _present(text: str) -> str:
    for now, then in PAST.items():
        text = text.replace(then, now)
    return _told(text)


def _things(thing: str) -> Form:
    return Form(f"(?:{EVENT[:-2]} {thing}\\.)+",
                lambda text: text.replace(". ", f" {thing}. "),
                lambda text: _told(text.replace(f" {thing}.", ".")))


STORY_FORMS = {
    "s": Form(f"(?:{EVENT})+", str, _told),
    "s:past": Form(r"(?:[a-z]{3} (?:had|found|lost|gave [a-z]{3}) \d+\.)+", _past, _present),
    "s:apples": _things("apples"), "s:coins": _things("coins"),
    "s:to": Form(r"(?:[a-z]{3} (?:(?:has|finds|loses) \d+|gives \d+ to [a-z]{3})\.)+",
                 lambda text: re.sub(r"gives (\w+) (\d+)", r"gives \2 to \1", text),
                 lambda text: _told(re.sub(r"gives (\d+) to (\w+)", r"gives \2 \1", text)))}
FORMS_OF_STORIES = tuple(f"{{{form}}}" for form in STORY_FORMS)


def _renamed(rng: random.Random, task: Task, level: int) -> str:
    """A story of people with other names, who are introduced in another order."""
    prompt = task.sample_prompt(rng, level)
    if rng.random() >= RENAMED_FRACTION:
        return prompt
    sentences = prompt.split(". ")
    n = sum(sentence.split()[1] == "has" for sentence in sentences[:-1][:3])
    first = [sentence for sentence in sentences[:n] if " has " in sentence]
    if first == sentences[:n] and len({text.split()[0] for text in first}) == n:
        sentences[:n] = first[::-1]
    names: dict[str, str] = {}
    for name in sorted(set(re.findall(r"[A-Z][a-z]{2}", prompt))):
        chosen = pick(rng, NAMES)
        while chosen in names.values():
            chosen = pick(rng, NAMES)
        names[name] = chosen
    return re.sub(r"[A-Z][a-z]{2}", lambda name: names[name[0]], ". ".join(sentences))


STORY = Wordings(
    "story", "{s}{w}:", r"(?P<s>(?:[A-Z][a-z]{2} (?:has|finds|loses|gives [A-Z][a-z]{2}) \d+\. )+)"
    r"(?P<w>[A-Z][a-z]{2}):", {**STORY_FORMS, "w": Form("[a-z]{3}", str, str.title)},
    ("{s}{w}:", "{s}{w}:?", "{s}{w}?", "{s}{w}=", "{s}and {w}?"),
    (*(text.replace("_", form) for form in FORMS_OF_STORIES for text in (
        "_how many does {w} have?", "_how many has {w} got?", "_how many does {w} have now?",
        "_what does {w} have?", "_how many has {w}?", "_how much does {w} have?",
        "_now {w} has?", "_how many are left for {w}?")),
     "{s:apples}how many apples does {w} have?", "{s:coins}how many coins does {w} have?",
     "{s:apples}how many apples has {w} got?", "{s:coins}how many coins has {w} got?"), _renamed)

BRACKETS = Wordings(
    "brackets", "{x}|", r"(?P<x>[()\[\]{}]+)\|", {"x": Form(r"[()\[\]{}]+")},
    ("{x}|", "{x}|?", "{x}?", "{x}|=", "{x}|:", "{x}=?"),
    ("close {x}.", "close the brackets {x}.",
     "what closes {x}?", "finish {x}.", "complete {x}.", "close all brackets: {x}.", "close: {x}.",
     "can you close {x}?", "which brackets close {x}?", "how do you close {x}?",
     "close the open brackets in {x}.", "what is missing: {x}?", "complete the brackets {x}."))

ROW = "[rg.#]+"
GRID = Wordings(
    "grid", "{x}@", "(?P<x>[RG.#]+(?:/[RG.#]+)+)@", {
        "x": Form(f"{ROW}(?:/{ROW})+", str, str.upper),
        "x:commas": Form(f"{ROW}(?:,{ROW})+", lambda text: text.replace("/", ","),
                         lambda text: text.replace(",", "/").upper())},
    ("{x}@", "{x}@?", "{x}?", "{x}@=", "{x:commas}@", "{x}@:"),
    tuple(text.replace("_", form) for form in ("{x}", "{x:commas}") for text in (
        "which way: _?", "which way from R to G: _?", "what is the shortest path: _?",
        "find the way: _?", "path: _?", "the way through _?", "_, which way?", "walk _!",
        "how do i get from R to G: _?", "find the shortest path: _!", "way from R to G in _?",
        "how does R get to G: _?", "solve the maze _!")))

WORDS = (COPY, REPEAT, PARITY, CYCLE, BOOLEAN, ASSIGN, RECALL, STORY, BRACKETS, GRID)
