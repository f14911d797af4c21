# SPDX-License-Identifier: Apache-2.0
"""Machine unlearning of language models in JAX, built around Unilogit (arXiv:2505.06027).

    import unilogit_jax as uj
    uj.losses.unilogit(logits, labels)        # per-token loss for your own loop
    uj.unlearn(uj.load_config("configs/toy.yaml"))

Submodules are loaded at first use, so that `import unilogit_jax` does not import jax.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_SUBMODULES = (
    "benchmarks",
    "config",
    "data",
    "errors",
    "evaluation",
    "losses",
    "methods",
    "metrics",
    "models",
    "ops",
    "run",
    "sharding",
    "train",
    "types",
    "workflows",
)
_ATTRIBUTES = {
    "load_config": "config",
    "load_pretrained": "workflows",
    "unlearn": "workflows",
    "finetune": "workflows",
    "evaluate": "workflows",
    "export": "workflows",
    "quickstart": "workflows",
}

__all__ = ["__version__", *_SUBMODULES, *_ATTRIBUTES]

if TYPE_CHECKING:
    from unilogit_jax import (  # noqa: F401
        benchmarks,
        config,
        data,
        errors,
        evaluation,
        losses,
        methods,
        metrics,
        models,
        ops,
        run,
        sharding,
        train,
        types,
        workflows,
    )


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return importlib.import_module(f"unilogit_jax.{name}")
    if name in _ATTRIBUTES:
        return getattr(importlib.import_module(f"unilogit_jax.{_ATTRIBUTES[name]}"), name)
    raise AttributeError(f"module 'unilogit_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
