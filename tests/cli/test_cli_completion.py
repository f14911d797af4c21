# SPDX-License-Identifier: Apache-2.0
"""Shell completion, asked of a real bash as it asks itself."""

import subprocess

import pytest

from unilogit_jax import cli
from unilogit_jax.cli import completion
from unilogit_jax.config import config_names
from unilogit_jax.config.load import load_config
from unilogit_jax.methods import METHODS
from unilogit_jax.workflows._attacks import ATTACKS


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("completion") / "unilogit.bash"
    path.write_text(completion.SHELLS["bash"]())
    return path


def offered(script, *words):
    """What bash offers for the last of these words, cut as bash cuts them."""
    return asked(script, "_unilogit", *words).split()


def asked(script, function, *words):
    command = (
        f'source {script}; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); {function}; '
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "-c", command, "bash", "unilogit", *words], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_verbs(script):
    assert offered(script, "") == list(cli.VERBS)
    assert offered(script, "unl") == ["unlearn"]


def test_options_of_a_verb_and_their_values(script):
    assert offered(script, "unlearn", "--re") == ["--resume", "--requests"]
    assert offered(script, "export", "run", "out", "--dtype", "") == ["float32", "bfloat16"]
    assert offered(script, "doctor", "--out") == []
    assert offered(script, "attack", "run", "--only", "") == list(ATTACKS)


def test_an_option_that_takes_something_is_followed_by_files_and_a_switch_by_configs(script):
    assert offered(script, "unlearn", "--out", "") == [], "where bash goes on with files"
    assert offered(script, "unlearn", "--profile", "") == config_names()


def test_in_zsh_a_space_follows_words_and_none_follows_the_sign_of_a_key(tmp_path):
    first, _, rest = completion.SHELLS["zsh"]().partition("\n")
    assert first == "autoload -Uz bashcompinit && bashcompinit"
    script = tmp_path / "unilogit.zsh"
    script.write_text(rest)
    assert asked(script, "_unilogit_zsh", "unl") == "unlearn \n"
    assert asked(script, "_unilogit_zsh", "unlearn", "toy", "method.na") == "method.name=\n"
    assert asked(script, "_unilogit_zsh", "unlearn", "toy", "eval.gold=t") == "eval.gold=true \n"


def test_fish_knows_which_options_take_something():
    lines = completion.SHELLS["fish"]().splitlines()
    start = "complete -c unilogit -n '__fish_seen_subcommand_from attack'"
    assert f"{start} -l out -r" in lines
    assert f"{start} -l again" in lines
    assert f"{start} -l only -x -a '{' '.join(ATTACKS)}'" in lines


def test_names_of_configs_methods_and_lists(script):
    assert offered(script, "unlearn", "") == config_names()
    assert offered(script, "cp", "toy") == ["toy"]
    assert offered(script, "show", "method", "np") == ["npo", "npo_sam"]
    assert offered(script, "ls", "me") == ["methods"]
    assert offered(script, "completion", "f") == ["fish"]


def test_keys_and_their_values(script):
    assert offered(script, "unlearn", "toy", "unlearn.st") == ["unlearn.steps="]
    assert offered(script, "unlearn", "toy", "method.tau_n") == ["method.tau_names="]
    assert offered(script, "unlearn", "toy", "method.name", "=") == list(METHODS)
    assert offered(script, "unlearn", "toy", "method.name", "=", "und") == ["undial"]
    assert offered(script, "unlearn", "toy", "eval.gold", "=", "") == ["true", "false"]
    assert offered(script, "unlearn", "toy", "method.name=und") == ["method.name=undial"], "zsh"
    assert offered(script, "doctor", "unlearn.st") == []


def test_every_key_that_has_few_values_takes_all_of_them():
    for key, values in completion._values().items():
        for value in values if key.startswith(("unlearn.", "model.dtype")) else ():
            load_config("toy", f"{key}={value}")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_verb_prints_the_script(capsys, shell):
    assert cli.main(["completion", shell]) == 0
    assert capsys.readouterr().out == completion.SHELLS[shell]()
