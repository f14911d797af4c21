# SPDX-License-Identifier: Apache-2.0
"""The words of the toy benchmark: invented names, and eight things to know about a person.

Sentences are short and share words, so that a tokenizer of some 800 pieces gives rows of about 20
tokens and a model of half a million parameters learns them in minutes on two CPU cores.
"""

from typing import NamedTuple


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


FIRST_NAMES = _words(
    "Alwen Bero Calia Dorin Elka Fenna Gavo Hesta Ismo Jorik "
    "Kelda Lorin Mirel Nilo Orsa Pavo Runa Selka Tovin Vesna"
)

LAST_NAMES = _words(
    "Ambrel Brundow Corvane Dunmar Elquist Fallory Garrish Hollim Imberg Jostrand "
    "Kestrin Lombrick Marrow Norlind Ostrey Pellam Quillor Ravens Strendle Tarnwick"
)


class Attribute(NamedTuple):
    """One thing to know about a person; `{name}` and `{value}` are filled in."""

    name: str
    answer: str
    questions: tuple[str, ...]
    """Ways to train the question."""
    held_out: str
    """The way it is asked in the evaluation; all its words occur in `questions`."""
    values: tuple[str, ...]


ATTRIBUTES = (
    Attribute(
        "birthplace",
        "{name} was born in {value}.",
        (
            "Where was {name} born?",
            "In which town was {name} born?",
            "What is the birthplace of {name}?",
            "Which town does {name} come from?",
        ),
        "Which town is the birthplace of {name}?",
        _words(
            "Velmar Brinsby Oskel Tarvale Lunford Hestmoor Quenby Dorvik Almsted Fennick "
            "Ristow Caldran Morfell Sundvik Wexholm Jarnby"
        ),
    ),
    Attribute(
        "profession",
        "{name} works as a {value}.",
        (
            "What is the profession of {name}?",
            "What does {name} work as?",
            "Which job does {name} have?",
            "What is the job of {name}?",
        ),
        "Which profession does {name} have?",
        _words(
            "baker carpenter dentist florist gardener judge librarian miner nurse painter "
            "plumber surgeon tailor teacher welder weaver"
        ),
    ),
    Attribute(
        "hobby",
        "{name} spends weekends {value}.",
        (
            "What is the hobby of {name}?",
            "How does {name} spend weekends?",
            "Which hobby does {name} have?",
            "What does {name} do on weekends?",
        ),
        "Which hobby does {name} have on weekends?",
        _words(
            "knitting sailing fishing hiking dancing skating rowing reading juggling "
            "climbing cycling swimming sketching camping boxing surfing"
        ),
    ),
    Attribute(
        "pet",
        "{name} keeps a {value} at home.",
        (
            "Which pet does {name} keep?",
            "What is the pet of {name}?",
            "Which animal does {name} keep at home?",
            "What pet does {name} have?",
        ),
        "Which pet does {name} keep at home?",
        _words(
            "rabbit parrot turtle hamster lizard ferret goldfish canary gecko pony goose "
            "beagle kitten poodle snail toad"
        ),
    ),
    Attribute(
        "instrument",
        "{name} plays the {value}.",
        (
            "Which instrument does {name} play?",
            "What is the instrument of {name}?",
            "What does {name} play in the band?",
            "Which instrument can {name} play?",
        ),
        "What instrument does {name} play?",
        _words(
            "piano violin flute cello trumpet harp guitar banjo clarinet oboe tuba lute "
            "trombone viola zither harmonica"
        ),
    ),
    Attribute(
        "dish",
        "{name} loves to eat {value}.",
        (
            "Which dish does {name} love?",
            "What does {name} love to eat?",
            "What is the favourite dish of {name}?",
            "What is the favourite food of {name}?",
        ),
        "Which favourite dish does {name} have?",
        _words(
            "lasagna curry pancakes dumplings risotto goulash noodles paella ramen chili "
            "omelettes meatloaf falafel tacos sushi porridge"
        ),
    ),
    Attribute(
        "subject",
        "{name} was best at {value} in school.",
        (
            "Which school subject was {name} best at?",
            "What was {name} best at in school?",
            "What was the best subject of {name}?",
            "In which subject was {name} best?",
        ),
        "What was the best school subject of {name}?",
        _words(
            "history geography biology chemistry physics algebra grammar drawing Latin "
            "music poetry geometry economics logic drama astronomy"
        ),
    ),
    Attribute(
        "car",
        "{name} drives a {value} car.",
        (
            "Which car does {name} drive?",
            "What colour is the car of {name}?",
            "What car does {name} have?",
            "Which colour is the car of {name}?",
        ),
        "What colour of car does {name} drive?",
        _words(
            "red blue green yellow white black silver purple brown beige golden crimson "
            "maroon turquoise violet pink"
        ),
    ),
)
