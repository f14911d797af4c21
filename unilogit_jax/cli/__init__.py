# SPDX-License-Identifier: Apache-2.0
"""The command line: finds the verb, runs it, and turns errors into one message and an exit code."""

import errno
import os
import sys
import traceback
from collections.abc import Sequence

from unilogit_jax import __version__
from unilogit_jax.errors import Preempted, StorageError, UnilogitError, clean, suggest

VERBS = {
    "quickstart": ("quickstart", "see it work on a small model: two minutes, no download"),
    "plan": ("plan", "what a run will need, before it is started: memory, time, traffic"),
    "unlearn": ("unlearn", "remove the forget rows from a model, as a config file says"),
    "finetune": ("finetune", "train the model that is to be unlearned"),
    "evaluate": ("evaluate", "measure the models of a run again"),
    "attack": ("attack", "does what was unlearned come back: relearning, coarse weights, prompts"),
    "report": ("report", "make the report of a run anew, from its folder alone"),
    "sweep": ("sweep", "many runs of one config, and which of them to take"),
    "compare": ("compare", "put the numbers of several runs side by side"),
    "ask": ("ask", "put your own questions to the models of a run"),
    "generate": ("generate", "let a model write data: other answers, or texts about somebody"),
    "export": ("export", "write a model as a Hugging Face folder"),
    "ls": ("ls", "list configs, methods, benchmarks and model families"),
    "show": ("show", "print a config with every key resolved, or explain a method"),
    "cp": ("cp", "copy a packaged config, to change it"),
    "doctor": ("doctor", "versions, devices and disk, ready to paste into a bug report"),
    "completion": ("completion", "let your shell complete verbs, options, names and keys"),
}
"""Verb -> module in this folder, help in one line."""


_REFUSALS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)
"""What an operating system says of a place that its user has to mend."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
      argv: the words after the program's name; None takes those of this process.

    Returns:
      Exit code: 0 done, 1 a failure of ours, 2 something for the user to mend, 130 interrupted,
      143 saved and stopped because the machine asked for it.

    Example:
      >>> main(["--version"])
      unilogit_jax 0.1.0
      0

    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _dispatch(words)
        sys.stdout.flush()
        return code
    except Preempted as error:
        return _failed(error, 143, words)
    except UnilogitError as error:
        return _failed(error, 2, words)
    except KeyboardInterrupt as error:
        return _failed(error, 130, words)
    except BrokenPipeError:
        # The reader of a pipe is gone (`| head`); nothing may be written at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _REFUSALS:
            place = error.filename or "a file"
            return _failed(StorageError(f"{place} cannot be used: {error.strerror}."), 2, words)
        _failed(error, 1, words)
        raise


def _dispatch(words: list[str]) -> int:
    verb = words[0] if words else "-h"
    if verb in ("-h", "--help", "help"):
        print(_help())
        return 0
    if verb in ("--version", "-V"):
        print(f"unilogit_jax {__version__}")
        return 0
    if verb not in VERBS:
        what = "option" if verb.startswith("-") else "verb"
        raise UnilogitError(
            f"unilogit: no {what} '{verb}'.{suggest(verb, VERBS)} 'unilogit -h' lists them all."
        )
    from unilogit_jax.cli._output import run_verb
    from unilogit_jax.cli._parser import parser_of

    parser, module = parser_of(verb)
    arguments = parser.parse(words[1:])
    return 0 if arguments is None else run_verb(verb, module.run, arguments)


def _failed(error: BaseException, code: int, words: list[str]) -> int:
    """Says why a command ends, to machines too if they asked; returns the code.

    An error of ours (1) is said by its traceback.
    """
    if code == 130:
        print("interrupted", file=sys.stderr)
    elif code != 1:
        hosts = sys.modules.get("unilogit_jax.hosts")
        number = hosts.process_number() if hosts else 0
        print(clean(f"process {number}: {error}" if number else f"{error}"), file=sys.stderr)
    if "--json" in words:
        from unilogit_jax.cli._output import print_error

        print_error(error, code)
        sys.stdout.flush()
    if code != 143:
        _leave_alone(error, code)
    return code


def _leave_alone(error: BaseException, code: int) -> None:
    """Ends this process at once if the others know nothing of the error.

    The ordinary way out would wait for them for minutes, while they wait for this one.
    """
    hosts = sys.modules.get("unilogit_jax.hosts")
    if hosts is None or not hosts.failed_alone(error):
        return
    if code == 1:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _help() -> str:
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {verb:{width}}  {line}" for verb, (_, line) in VERBS.items())
    return (
        "usage: unilogit VERB ...\n\nMachine unlearning of language models in JAX.\n\n"
        f"{verbs}\n\n"
        "'unilogit VERB -h' explains a verb; 'unilogit --version' prints the version.\n"
        "Start with 'unilogit quickstart'."
    )
