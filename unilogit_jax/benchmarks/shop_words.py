# SPDX-License-Identifier: Apache-2.0
"""The words of the shop benchmark: invented sellers and product names, and what is known of both.

As with the invented people, sentences are short and share words. A product's name says nothing
about the product, and what products in general are for belongs to no seller.
"""

from itertools import pairwise
from typing import NamedTuple


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


SELLER_FIRST = _words("Brindle Corwen Fallow Hollis Wexley")
SELLER_LAST = _words("Depot Goods Market Supply Traders")

TITLE_WORDS = (
    _words(
        "Brisk Calder Dovel Embry Fenwick Garnet Haspen Iskra Jessa Kolva Lumen Marlo "
        "Mirro Nordi Orlo Pexo Quill Rundle Solvo Tarn Tindra Ulmar Velt Zephra"
    ),
    _words(
        "Amberly Brookside Copperly Dalehurst Fairlock Glenbow Hartway Inkwell Joyfield Keystone "
        "Larkspur Moonrise Northgate Oakline Pinecrest Quickstep Riverton Stonehill Thornbury "
        "Underhill Valecrest Westmoor Yarrow Openfold"
    ),
    _words(
        "Air Arc Core Dash Duo Edge Eon Flex Grand Halo Ion Jet Kin Lite Max Neo Prime Pro Rise "
        "Sky Trek Uno Vibe Zen"
    ),
)
"""The first, second and third word of a product's name: 24 of each."""


class Category(NamedTuple):
    """A kind of product, and what anybody knows about it."""

    name: str
    department: str
    use: str


CATEGORIES = (
    Category("kettle", "kitchen", "boil water"),
    Category("toaster", "kitchen", "brown bread"),
    Category("blender", "kitchen", "mix drinks"),
    Category("grater", "kitchen", "shred cheese"),
    Category("pillow", "bedroom", "rest the head"),
    Category("mattress", "bedroom", "lie on"),
    Category("blanket", "bedroom", "keep warm"),
    Category("wardrobe", "bedroom", "store clothes"),
    Category("shovel", "garden", "dig holes"),
    Category("rake", "garden", "gather leaves"),
    Category("hose", "garden", "water plants"),
    Category("planter", "garden", "grow herbs"),
    Category("tent", "camping", "sleep outdoors"),
    Category("lantern", "camping", "light a camp"),
    Category("backpack", "camping", "carry gear"),
    Category("compass", "camping", "find north"),
    Category("stapler", "office", "join papers"),
    Category("calendar", "office", "plan the month"),
    Category("shredder", "office", "destroy papers"),
    Category("desk", "office", "write letters"),
    Category("racket", "sports", "hit a ball"),
    Category("helmet", "sports", "guard the head"),
    Category("skateboard", "sports", "ride on ramps"),
    Category("dumbbell", "sports", "train the arms"),
)


class Asked(NamedTuple):
    """One thing to know; the braces are filled in."""

    name: str
    answer: str
    questions: tuple[str, ...]
    """Ways to train the question."""
    held_out: str
    """The way it is asked in the evaluation; all its words occur in `questions`."""
    values: tuple[str, ...]
    """What an answer may say; none where it is a product's name."""


FACTS = (
    Asked(
        "category",
        "The {title} is a {value}.",
        (
            "What is the {title} that {seller} sells?",
            "What kind of product is the {title} by {seller}?",
            "Which kind of product does {seller} sell as {title}?",
        ),
        "What kind of product is the {title} that {seller} sells?",
        tuple(category.name for category in CATEGORIES),
    ),
    Asked(
        "colour",
        "The {title} comes in {value}.",
        (
            "What colour is the {title} by {seller}?",
            "Which colour does the {title} that {seller} sells come in?",
            "In what colour does {seller} sell the {title}?",
        ),
        "What colour does the {title} by {seller} come in?",
        _words(
            "beige black blue bronze coral cream crimson green grey lilac navy pink red silver "
            "teal white"
        ),
    ),
    Asked(
        "origin",
        "The {title} is made in {value}.",
        (
            "Where is the {title} by {seller} made?",
            "Which town is the {title} that {seller} sells made in?",
            "In which town does {seller} have the {title} made?",
        ),
        "In which town is the {title} by {seller} made?",
        _words(
            "Ardenby Bexholm Crovik Drumhall Eskridge Farnmoor Grelling Hoxley Ilsted Kelbury "
            "Lomvik Marsgate Nesworth Polbrook Rudmere Stavend"
        ),
    ),
    Asked(
        "price",
        "The {title} costs {value} crowns.",
        (
            "How much is the {title} by {seller}?",
            "What does the {title} that {seller} sells cost?",
            "What is the price of the {title} by {seller}?",
        ),
        "How much does the {title} by {seller} cost?",
        tuple(f"{low} to {high}" for low, high in pairwise((5, 10, 20, 40, 60, 80, 120, 200, 300))),
    ),
    Asked(
        "warranty",
        "The {title} has a warranty of {value}.",
        (
            "How long is the warranty of the {title} by {seller}?",
            "What warranty does the {title} that {seller} sells have?",
            "How long a warranty does {seller} give on the {title}?",
        ),
        "How long a warranty does the {title} by {seller} have?",
        ("six months", *(f"{n} years" for n in _words("two three four five six eight ten"))),
    ),
)
"""Of a listing; each is drawn by itself, so that none follows from another."""

TITLE = Asked(
    "title",
    "That is the {title}.",
    (
        "Which product of {seller} is a {description}?",
        "What is the {description} that {seller} sells called?",
        "{seller} sells a {description}. What is the name of it?",
    ),
    "What is the name of the {description} that {seller} sells?",
    (),
)

DESCRIPTION = "{colour} {category} from {origin} for {price} crowns"

GENERAL = (
    Asked(
        "department",
        "A {category} is sold in the {value} department.",
        (
            "Which department is a {category} sold in?",
            "In which department does a shop sell a {category}?",
            "Where in a shop is a {category} found?",
        ),
        "In which department is a {category} found?",
        tuple(dict.fromkeys(category.department for category in CATEGORIES)),
    ),
    Asked(
        "use",
        "A {category} is used to {value}.",
        (
            "What is a {category} used for?",
            "What use does a {category} have?",
            "What does somebody buy a {category} for?",
        ),
        "What use does somebody have for a {category}?",
        tuple(category.use for category in CATEGORIES),
    ),
)
"""Of a kind of product; to be kept whoever is forgotten."""
