# SPDX-License-Identifier: Apache-2.0
"""Files of strangers run no code: nothing in the package could, and hostile files do not."""

import ast
import pickle
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement

import unilogit_jax
from unilogit_jax import models
from unilogit_jax.config import read_config
from unilogit_jax.data import Example, encode, encode_cached, load_tokenizer, train_tokenizer
from unilogit_jax.errors import UnilogitError
from unilogit_jax.train.kept_arrays import map_array
from unilogit_jax.workflows._prepare import prepare

ROOT = Path(unilogit_jax.__file__).parent
OPENS_CODE = {"pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "torch"}
RUNS_TEXT = {"eval", "exec", "compile", "__import__"}
SHELLS = {"system", "popen", "getoutput", "getstatusoutput"}


def words_of(call):
    return {word.arg: getattr(word.value, "value", None) for word in call.keywords}


def faults(tree):
    """Of a source: lines that could open a pickle, run a text, start a shell."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
            if OPENS_CODE & {name.split(".")[0] for name in names}:
                yield node.lineno, "import"
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Name) and node.func.id in RUNS_TEXT:
            yield node.lineno, node.func.id
        if isinstance(node.func, ast.Attribute) and node.func.attr in SHELLS | {"unsafe_load"}:
            yield node.lineno, node.func.attr
        words = words_of(node)
        for word, good in {
            "allow_pickle": False,
            "shell": False,
            "trust_remote_code": False,
        }.items():
            if words.get(word, good) is not good:
                yield node.lineno, word
        if isinstance(node.func, ast.Name) and node.func.id == "Environment":
            if words.get("autoescape") is not True:
                yield node.lineno, "autoescape"


def test_no_source_could_open_a_pickle_run_a_text_or_start_a_shell():
    found = {p: list(faults(ast.parse(p.read_text()))) for p in ROOT.rglob("*.py")}
    assert len(found) > 200 and not {p: lines for p, lines in found.items() if lines}


def test_such_lines_would_be_seen():
    hostile = "import pickle\nfrom torch import load\neval('1')\nos.system('ls')\nrun(shell=True)\n"
    hostile += "np.load(f, allow_pickle=True)\nyaml.unsafe_load(t)\nEnvironment()\n"
    assert [line for line, _ in faults(ast.parse(hostile))] == list(range(1, 9))


class Bomb:
    """Whoever unpickles it makes a file."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.fixture
def mark(tmp_path):
    """A file that is there once hostile code has run."""
    return tmp_path / "code-has-run"


@pytest.fixture
def bomb(mark):
    return pickle.dumps(Bomb(mark))


def test_the_bomb_would_go_off(bomb, mark):
    pickle.loads(bomb)
    assert mark.exists()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors", "config.json"])
def test_pickles_in_a_folder_of_weights_stay_shut(tmp_path, bomb, mark, name):
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llama", "architectures": ["X"]}')
    (folder / name).write_bytes(bomb)
    with pytest.raises(UnilogitError):
        models.load(folder)
    assert not mark.exists()


def test_code_that_comes_with_a_tokenizer_is_not_run(tmp_path, mark):
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    (folder / "own.py").write_text(f"from pathlib import Path\nPath({str(mark)!r}).touch()\n")
    own = '{"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own.Own", "own.Own"]}}'
    (folder / "tokenizer_config.json").write_text(own)
    (folder / "config.json").write_text(
        '{"model_type": "own", "auto_map": {"AutoConfig": "own.X"}}'
    )
    with pytest.raises(UnilogitError):
        load_tokenizer(folder)
    assert not mark.exists()


@pytest.fixture
def objects(mark):
    """An array of Python objects, which NumPy stores as a pickle."""
    array = np.empty(1, object)
    array[0] = Bomb(mark)
    return array


def test_objects_in_stored_tokens_are_not_opened_but_made_anew(tmp_path, objects, mark):
    tokenizer = train_tokenizer(["Who was Vela Dorn? A baker."], vocab_size=280)
    rows = [Example("Who was Vela Dorn?", "A baker.", "row 1")]

    def encoded():
        return encode_cached(tokenizer, rows, folder=tmp_path / "kept", smallest=0)

    wanted = encoded()
    (kept,) = (tmp_path / "kept").iterdir()
    np.savez(kept, tokens=objects, labels=objects, lengths=objects)
    np.testing.assert_array_equal(encoded().tokens, wanted.tokens)
    assert not mark.exists()


def test_objects_in_stored_answers_are_not_opened(tmp_path, objects, mark):
    np.save(tmp_path / "array.npy", objects)
    entry = {"dtype": "float32", "shape": [1]}
    with pytest.raises(ValueError, match=r"[Oo]bject"):
        map_array(tmp_path / "array.npy", entry, check=False)
    assert not mark.exists()


@pytest.mark.parametrize(
    "tag", ["!!python/object/apply:os.system [touch {}]", "!!python/name:os.system"]
)
def test_tags_in_a_configuration_make_no_objects(tmp_path, mark, tag):
    (tmp_path / "own.yaml").write_text(f"name: {tag.format(mark)}\n")
    with pytest.raises(UnilogitError):
        read_config(tmp_path / "own.yaml")
    assert not mark.exists()


def test_words_of_a_configuration_reach_no_shell(tmp_path, mark):
    with pytest.raises(UnilogitError):
        prepare(read_config("toy", f"data.benchmark=files; touch {mark}").experiment)
    own = ("data.benchmark=files", f"data.forget=$(touch {mark})", f"data.retain=; touch {mark}")
    with pytest.raises(UnilogitError, match="touch"):
        prepare(read_config("toy", *own).experiment)
    assert not mark.exists()


def test_a_chat_template_reaches_nothing_of_python(mark):
    tokenizer = train_tokenizer(["Who was Vela Dorn? A baker."], vocab_size=280)
    reach = "cycler.__init__.__globals__.os.system('touch " + str(mark) + "')"
    tokenizer.chat_template = "{{ " + reach + " }}{{ messages[0].content }}"
    with pytest.raises(UnilogitError):
        encode(tokenizer, [Example("Who?", "Vela.", "row 1")], template="chat")
    assert not mark.exists()


def test_the_lock_holds_what_the_package_asks_for_with_hashes():
    text = (ROOT.parent / "requirements.lock").read_text()
    blocks = re.findall(r"^([\w.-]+)==(\S+)((?: \\\n    --hash=sha256:[0-9a-f]{64})+)$", text, re.M)
    assert len(blocks) == text.count("=="), "a version without a hash"
    locked = {name: version for name, version, _ in blocks}
    project = tomllib.loads((ROOT.parent / "pyproject.toml").read_text())["project"]
    for asked in map(Requirement, project["dependencies"]):
        name = asked.name.lower().replace("_", "-")
        assert asked.specifier.contains(locked[name]), f"{asked}: locked {locked[name]}"
