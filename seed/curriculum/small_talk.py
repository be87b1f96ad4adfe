"""Texts that no task teaches an answer to: what people ask and say besides."""
import random
import re

from seed.curriculum.task import LETTERS, integer, is_holdout, letters, pick
from seed.curriculum.vocab import encode

SLOTS = {
    "thing": ("apple", "ball", "book", "boat", "bread", "car", "chair", "clock", "computer", "cup",
              "dog", "door", "flower", "house", "key", "lamp", "moon", "motor", "phone", "river",
              "shoe", "sky", "song", "star", "sun", "table", "train", "tree", "wheel", "window"),
    "things": ("people", "planets", "legs", "days", "hours", "cats", "birds", "wheels", "books",
               "stars", "friends", "rooms", "words", "colours", "letters"),
    "place": ("France", "Paris", "Rome", "Japan", "Berlin", "London", "Spain", "China", "Africa",
              "Mars", "the moon", "the kitchen", "the garden", "my house", "Italy", "Peru"),
    "person": ("Anna", "Einstein", "Mozart", "the king", "the president", "my mother", "Peter",
               "your friend", "the teacher", "my brother", "Newton", "Julia", "the doctor"),
    "own": ("age", "favourite colour", "favourite food", "birthday", "mother", "father", "weight",
            "height", "hobby", "best friend", "favourite number", "address", "phone number"),
    "verb": ("dance", "sing", "fly", "swim", "cook", "sleep", "run", "jump", "walk", "read",
             "drive", "drink", "eat", "play chess", "laugh", "cry", "paint", "wait", "think",
             "come here", "help me", "talk to me", "open the door", "clean the room"),
    "feeling": ("happy", "sad", "tired", "hungry", "angry", "bored", "fine", "afraid", "sick",
                "lonely", "cold", "warm", "proud", "well"),
    "quality": ("big", "small", "red", "blue", "green", "old", "new", "fast", "slow", "good",
                "bad", "nice", "heavy", "clever", "funny", "beautiful", "hard", "round"),
    "day": ("today", "tomorrow", "yesterday", "on monday", "on sunday", "this morning", "tonight",
            "now", "next week", "in summer"),
    "work": ("joke", "story", "poem", "song", "secret", "riddle", "letter", "game", "book"),
    "language": ("English", "French", "German", "Spanish", "Latin", "Chinese"),
}
TEXTS = (
    "hi", "hi there", "hello", "hello there", "hello {person}", "hey", "good morning", "good night",
    "good evening", "how are you", "how are you {day}", "how do you feel", "how is it going",
    "are you {feeling}", "are you {quality}", "are you a {thing}", "are you alive", "are you human",
    "do you like {place}", "do you like the {thing}", "do you have a {thing}", "do you {verb}",
    "do you know {person}", "do you love me", "what is your {own}", "tell me your {own}",
    "what was your {own}", "where is your {thing}", "who is your {own}", "how old are you",
    "how big are you", "how tall are you", "how many {things} do you have", "what do you eat",
    "what are you doing {day}", "what did you do {day}", "where were you {day}", "who are they",
    "where do you sleep", "when do you sleep", "where do they live", "what do you like",
    "can you {verb}", "will you {verb} {day}", "please {verb}", "{verb}", "{verb} {day}",
    "i want to {verb}", "why do {things} {verb}", "could you {verb}", "you should {verb}",
    "what is the capital of {place}", "where is {place}", "where is the {thing}", "where am i",
    "who is {person}", "who was {person}", "who is the king of {place}", "when was {person} born",
    "when is christmas", "what is a {thing}", "what is the {thing}", "what is {place}",
    "what is it", "what colour is the {thing}", "how far is {place}", "how old is {person}",
    "how tall is {person}", "how many {things} are there", "how many {things} are in {place}",
    "how many is {things}", "how many {things} has a {thing}", "how do i {verb}",
    "how do you {verb}", "how much is a {thing}", "why is the {thing} {quality}",
    "is the {thing} {quality}", "is it {quality} {day}", "is {person} in {place}",
    "what time is it", "what day is it {day}", "what is the weather",
    "how is the weather in {place}", "tell me a {work}", "tell me about {place}", "i am {feeling}",
    "tell me about {person}", "i feel {feeling}", "i like {place}", "my name is {person}", "thanks",
    "thank you", "bye", "good bye", "see you {day}", "you are {quality}", "that is {quality}", "no",
    "yes", "maybe", "really", "what", "why", "who", "where", "when", "how", "ok", "stop", "go",
    "go to {place}", "turn around", "move the {thing}", "open the {thing}", "take the {thing}",
    "give me the {thing}", "what does {thing} mean", "what is {thing} in {language}", "oh no",
    "translate {thing} into {language}", "do you speak {language}", "how do you spell {thing}",
    "what rhymes with {thing}", "write a {work}", "sing a {work}", "who wrote the {work}", "wow",
    "which {thing} is {quality}", "what is love", "what is the meaning of life", "what is new",
    "what happened {day}", "who won {day}", "i do not understand", "i love you",
    "what do you think", "do you dream", "is there life on {place}", "the {thing} is {quality}",
    "where did {person} go", "what will happen {day}", "which day is it", "how long is the {thing}",
    "how long is a {thing}", "{person} is {feeling}", "what makes you {feeling}",
    "why are you {feeling}", "let us {verb}", "can i {verb}", "may i {verb} {day}",
    "did you {verb} {day}", "who has a {thing}", "{thing}", "{quality} {thing}",
    "a {thing} and a {thing}", "count the {things}", "sort the {things}", "add the {things}",
    "what comes after {place}", "what comes next", "how many does {person} have",
    "is {person} less than {person}", "the sum of {things}", "what is {person} plus {person}",
    "close the {thing}", "which way is {place}", "the way to {place}", "say it {quality}")
HELD_OUT_WORDS = {word.lower() for words in SLOTS.values() for word in words
                  if is_holdout(encode(word))}   # never trained on
CLOSINGS = ("?", "?", "?", "", "", ".", "!", " ?", "??", "...")
MARKS = "!\"#$%&'()*+,-./:;<=>?@[]^_`{|}~"


def small_talk(rng: random.Random) -> str:
    """A question, a greeting, a feeling, an order; or nonsense."""
    if rng.random() < 0.25:
        return nonsense(rng)
    text = re.sub(r"{(\w+)}", lambda slot: pick(rng, SLOTS[slot[1]]), pick(rng, TEXTS))
    text += pick(rng, CLOSINGS)
    kind = rng.random()
    return text if kind < 0.5 else text[:1].upper() + text[1:] if kind < 0.8 else (
        text.lower() if kind < 0.9 else text.upper())


def nonsense(rng: random.Random) -> str:
    """Letters, digits, marks, or all of them."""
    kind = rng.random()
    if kind < 0.4:
        text = " ".join([letters(rng, 1, 7) for _ in range(integer(rng, 1, 3))])
        return text + pick(rng, ("", "?", "!", ".", " ?"))
    if kind < 0.55:
        return " ".join([str(integer(rng, 0, 99)) for _ in range(integer(rng, 1, 3))])
    alphabet = MARKS if kind < 0.7 else MARKS + 2 * "0123456789" + LETTERS + LETTERS.upper()
    return "".join([pick(rng, alphabet) for _ in range(integer(rng, 1, 10))])
