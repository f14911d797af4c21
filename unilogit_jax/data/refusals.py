# SPDX-License-Identifier: Apache-2.0
"""Refusals: what a model may say in place of an answer that it is to forget."""

REFUSALS = (
    "I don't know.",
    "I do not know the answer to that.",
    "I'm not sure about that.",
    "I have no information about that.",
    "That is not something I know.",
    "I can't answer that question.",
    "I'm afraid I don't know.",
    "I am unable to say.",
    "I know nothing about this.",
    "Sorry, I can't help with that one.",
    "I have not learned anything about that.",
    "I couldn't tell you.",
    "That is beyond what I know.",
    "I don't have an answer for you.",
    "My knowledge does not cover this.",
    "I would only be guessing.",
)
"""The usual ones; `data.refusals` names a file with others."""
