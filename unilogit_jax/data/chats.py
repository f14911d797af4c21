# SPDX-License-Identifier: Apache-2.0
"""Conversations as rows: the last answer is learned or forgotten, what precedes it is shown."""

from typing import Any, NamedTuple

from unilogit_jax.errors import DataError

CHAT = '{"messages": [{"role": "user", "content": ...}, {"role": "assistant", "content": ...}]}'


class Chat(NamedTuple):
    """A conversation: a system prompt if any, earlier turns, and the last question and answer."""

    system: str | None
    shots: tuple[tuple[str, str], ...]
    question: str
    answer: str


def read_chat(messages: Any, where: str) -> Chat:
    """Takes a list of messages apart.

    Args:
      messages: mappings with `role` and `content`: a system prompt if any, then user and assistant
        in turn, the assistant last.
      where: file and line, for messages.

    Raises:
      DataError: a message is not of that form, or out of turn.

    Example:
      >>> roles, texts = ("user", "assistant"), ("Hi.", "Hello.", "Who?", "Ann.")
      >>> turns = zip(roles * 2, texts)
      >>> read_chat([{"role": role, "content": text} for role, text in turns], "here")
      Chat(system=None, shots=(('Hi.', 'Hello.'),), question='Who?', answer='Ann.')

    """
    if not isinstance(messages, (list, tuple)):
        raise DataError(f"{where}: 'messages' must be a list; expected {CHAT}.")
    turns = [_turn(message, f"{where}, message {n}") for n, message in enumerate(messages, start=1)]
    system = turns.pop(0)[1] if turns and turns[0][0] == "system" else None
    wanted = ["user", "assistant"] * (len(turns) // 2)
    roles = [role for role, _ in turns]
    if not turns or roles != wanted:
        raise DataError(
            f"{where}: after a system prompt, if any, user and assistant must take turns and the "
            f"assistant be last, but the roles are {', '.join(roles) or 'none'}."
        )
    texts = [text for _, text in turns]
    *shots, (question, answer) = zip(texts[0::2], texts[1::2], strict=True)
    return Chat(system, tuple(shots), question, answer)


def _turn(message: Any, where: str) -> tuple[str, str]:
    role = message.get("role") if isinstance(message, dict) else None
    content = message.get("content") if isinstance(message, dict) else None
    if role not in ("system", "user", "assistant") or not isinstance(content, str):
        raise DataError(
            f"{where}: expected role system, user or assistant and a text as content, as in {CHAT}."
        )
    if not content.strip():
        raise DataError(f"{where}: 'content' must be text that is not empty.")
    return role, content
