# SPDX-License-Identifier: Apache-2.0
"""`unilogit completion`: a script with which a shell completes verbs, options, names and keys."""

import argparse
from collections.abc import Mapping
from typing import Any, NamedTuple

from unilogit_jax.cli._output import Result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The shell."""
    parser.add_argument("shell", choices=tuple(SHELLS), help="whose script to print")
    parser.epilog = """put one of these where your shell starts:
  source <(unilogit completion bash)                      ~/.bashrc
  source <(unilogit completion zsh)                       ~/.zshrc, after compinit
  unilogit completion fish | source                       ~/.config/fish/config.fish"""


def run(args: argparse.Namespace) -> Result:
    """Prints the script."""
    script = SHELLS[args.shell]()
    print(script, end="")
    return Result({"shell": args.shell, "script": script})


class _Verb(NamedTuple):
    names: list[str]
    """What may stand first: configs, lists."""
    options: dict[str, list[str] | None]
    """Option -> its values, where they are few; None if it takes no value."""
    keys: bool
    """Whether key=value may follow."""
    files: bool
    """Whether a file may stand first."""


def _verbs() -> dict[str, _Verb]:
    from unilogit_jax.cli import VERBS
    from unilogit_jax.cli._parser import parser_of
    from unilogit_jax.cli.attack import NAMES
    from unilogit_jax.cli.ls import LISTS
    from unilogit_jax.config import config_names

    found, known = {}, {"--only": NAMES}
    for verb in VERBS:
        actions = parser_of(verb)[0]._actions
        options = {
            name: None if a.nargs == 0 else list(a.choices or known.get(name, ()))
            for a in actions
            for name in a.option_strings
        }
        places = {a.dest: list(a.choices or ()) for a in actions if not a.option_strings}
        names = [name for choices in places.values() for name in choices]
        if "config" in places or verb == "cp":
            names += config_names()
        names += {"ls": list(LISTS), "show": ["method"]}.get(verb, [])
        files = verb not in ("ls", "completion", "doctor", "quickstart")
        found[verb] = _Verb(names, options, "overrides" in places, files)
    return found


def _values() -> dict[str, list[str]]:
    """Every key of a configuration -> its values, where they are few."""
    from unilogit_jax.config import Experiment
    from unilogit_jax.config.method_card import method_card
    from unilogit_jax.methods import METHODS

    schema = Experiment.model_json_schema()
    found = dict(_keys(schema, schema["$defs"], ""))
    for name in METHODS:
        found |= {f"method.{key.name}": [] for key in method_card(name).keys}
    return {**found, "method.name": list(METHODS)}


def _keys(section: Mapping[str, Any], known: Mapping[str, Any], prefix: str) -> Any:
    for key, field in section["properties"].items():
        parts = [field, *field.get("anyOf", ())]
        below = [known[p["$ref"].rpartition("/")[2]] for p in parts if "$ref" in p]
        for child in below:
            yield from _keys(child, known, f"{prefix}{key}.")
        if not below and "oneOf" not in field:
            values = [str(value) for part in parts for value in part.get("enum", ())]
            values += ["true", "false"] * any(part.get("type") == "boolean" for part in parts)
            yield f"{prefix}{key}", values


def _bash() -> str:
    from unilogit_jax.methods import METHODS

    verbs, values = _verbs(), _values()
    ways = [f'show:method) words="{" ".join(METHODS)}" ;;']
    starts = []
    for verb, one in verbs.items():
        for option, choices in one.options.items():
            if choices is not None:  # without words of ours bash offers files
                ways.append(f'{verb}:{option}) words="{" ".join(choices)}" ;;')
        keys = "$keys" if one.keys else ""
        more = " ".join([*one.options, keys])
        starts.append(f'{verb}) words="{" ".join(one.names)}" more="{more}" ;;')
    few = [f'{key}) words="{" ".join(choices)}" ;;' for key, choices in values.items() if choices]
    return _BASH.format(
        verbs=" ".join(verbs),
        keys=" ".join(f"{key}=" for key in values),
        few="\n      ".join(few),
        ways="\n      ".join(ways),
        starts="\n        ".join(starts),
    )


_BASH = """# Completion of unilogit for bash, and for zsh with bashcompinit.
_unilogit() {{
  local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}}
  local verb=${{COMP_WORDS[1]}} key= before= words= more=
  local keys="{keys}"
  COMPREPLY=()
  # bash cuts a word at "=", zsh does not.
  if [[ $cur == "=" ]]; then key=$prev cur=
  elif [[ $prev == "=" ]]; then key=${{COMP_WORDS[COMP_CWORD-2]}}
  elif [[ $cur == *=* ]]; then key=${{cur%%=*}} before=${{cur%%=*}}= cur=${{cur#*=}}
  fi
  if (( COMP_CWORD == 1 )); then words="{verbs}"
  elif [[ -n $key ]]; then
    case $key in
      {few}
    esac
  else
    case $verb:$prev in
      {ways}
      *) case $verb in
        {starts}
      esac ;;
    esac
    if [[ -n $cur ]]; then words="$words $more"; fi
  fi
  COMPREPLY=( $(compgen -P "$before" -W "$words" -- "$cur") )
  if [[ ${{#COMPREPLY[@]}} == 1 && ${{COMPREPLY[0]}} == *= ]]; then
    compopt -o nospace 2>/dev/null
  fi
}}
complete -o default -F _unilogit unilogit
"""


def _zsh() -> str:
    return f"autoload -Uz bashcompinit && bashcompinit\n{_bash()}{_ZSH}"


_ZSH = """# zsh takes "no space behind" for all words or for none, and does not know compopt.
_unilogit_zsh() {
  _unilogit
  local word ready=()
  for word in "${COMPREPLY[@]}"; do
    [[ -z $word || $word == *= ]] || word="$word "
    ready+=("$word")
  done
  COMPREPLY=("${ready[@]}")
}
complete -o default -o nospace -F _unilogit_zsh unilogit
"""


def _fish() -> str:
    from unilogit_jax.cli import VERBS
    from unilogit_jax.methods import METHODS

    lines = ["# Completion of unilogit for fish."]
    for verb, (_, line) in VERBS.items():
        about = line.replace("'", "\\'")
        lines.append(f"complete -c unilogit -n __fish_use_subcommand -f -a {verb} -d '{about}'")
    keys = " ".join(f"{key}={one}" for key, few in _values().items() for one in few or [""])
    for verb, one in _verbs().items():
        start = f"complete -c unilogit -n '__fish_seen_subcommand_from {verb}'"
        if words := " ".join([*one.names, keys * one.keys]).strip():
            lines.append(f"{start}{'' if one.files else ' -f'} -a '{words}'")
        for option, choices in one.options.items():
            if option.startswith("--"):
                few = f" -x -a '{' '.join(choices)}'" if choices else " -r" * (choices is not None)
                lines.append(f"{start} -l {option[2:]}{few}")
    methods = "__fish_seen_subcommand_from show; and contains method (commandline -opc)"
    lines.append(f"complete -c unilogit -n '{methods}' -f -a '{' '.join(METHODS)}'")
    return "\n".join(lines) + "\n"


SHELLS = {"bash": _bash, "zsh": _zsh, "fish": _fish}
"""Shell -> what makes its script."""
