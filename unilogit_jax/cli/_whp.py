# SPDX-License-Identifier: Apache-2.0
"""The arguments of verbs that can decode a model together with a reinforced one."""

import argparse


def add_whp(parser: argparse.ArgumentParser) -> None:
    """--whp and --alpha."""
    parser.add_argument(
        "--whp",
        metavar="REINFORCED",
        help="a run or weights that know better what is to be forgotten: decode also without the "
        "tokens that they prefer (column whp_decoding)",
    )
    parser.add_argument(
        "--alpha",
        metavar="NUMBER",
        type=float,
        help="with --whp: how strongly (5); 0 is the model itself",
    )
