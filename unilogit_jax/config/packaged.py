# SPDX-License-Identifier: Apache-2.0
"""The experiment files that come with the package, and how a path or a name is resolved."""

from pathlib import Path

from unilogit_jax.errors import ConfigError, StorageError, suggest
from unilogit_jax.paths import AnyPath, to_source


def config_names() -> list[str]:
    """Names of the packaged experiment files, sorted.

    Example:
      >>> "toy" in config_names()
      True

    """
    root = _root()
    return sorted(p.relative_to(root).with_suffix("").as_posix() for p in root.rglob("*.yaml"))


def config_path(name: str) -> Path:
    """The file of a packaged experiment.

    Raises:
      ConfigError: there is none of that name.

    """
    names = config_names()
    if name not in names:
        near = suggest(name.removesuffix(".yaml"), names)
        raise ConfigError(f"no packaged config '{name}'.{near} There are: {', '.join(names)}.")
    return _root() / f"{name}.yaml"


def find_config(source: str | AnyPath) -> AnyPath:
    """The file that a path or a packaged name means; a file wins over a name.

    Raises:
      ConfigError: there is no such file, with near names of what there is.

    """
    path, names = to_source(source), config_names()
    try:
        if isinstance(path, Path):
            path = path.expanduser()
        if path.is_file():
            return path
    except StorageError:
        raise
    except (OSError, RuntimeError) as error:
        raise ConfigError(
            f"there is no config file {str(path)!r:.80} "
            f"({getattr(error, 'strerror', None) or error})."
        ) from None
    if str(source) in names:
        return config_path(str(source))
    if path.is_dir():
        inside = path / "config.yaml"
        hint = f" Did you mean '{inside}'?" if inside.is_file() else ""
        raise ConfigError(f"'{path}' is a folder, not a config file.{hint}")
    beside = [p.name for p in _listing(path.parent) if p.suffix in (".yaml", ".yml")]
    near = suggest(path.name, beside) or suggest(path.stem, names)
    raise ConfigError(
        f"there is no config file '{path}'.{near} Packaged configs: {', '.join(names)}."
    )


def _root() -> Path:
    """`_configs` in an installed wheel, `configs` beside the package in a checkout."""
    package = Path(__file__).parents[1]
    packed = package / "_configs"
    return packed if packed.is_dir() else package.parent / "configs"


def _listing(folder: AnyPath) -> list[AnyPath]:
    try:
        return sorted(folder.iterdir(), key=str)
    except OSError:
        return []
