# SPDX-License-Identifier: Apache-2.0
"""The schema of an experiment file: every key, its type, its default and what it means."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, model_validator

from unilogit_jax.config.consistency import problems_of
from unilogit_jax.config.method_field import MethodConfig
from unilogit_jax.methods import Method, Unilogit

# Far above what is meant; larger ones overflow in the arithmetic behind.
Count = Annotated[StrictInt, Field(ge=1, le=10**9)]
Size = Annotated[StrictInt, Field(ge=-(10**9), le=10**9)]
Seed = Annotated[StrictInt, Field(ge=0, lt=2**32)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]


class _Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


class Scratch(_Section):
    """A Llama-shaped model made from scratch; it is trained on the data first."""

    width: Count = 128
    """Width of the residual stream."""
    layers: Count = 2
    """Number of blocks."""
    heads: Count = 4
    """Attention heads."""
    kv_heads: Count | None = None
    """Key/value heads; null means as many as heads."""
    vocab_size: Count = 1024
    """Largest size of the tokenizer that is trained on the data."""


class Model(_Section):
    """Which weights to start from: exactly one of `weights` and `scratch`."""

    weights: str | None = None
    """A folder, a URL, a Hub id such as org/name, or a run made by `unilogit finetune`."""
    revision: str | None = None
    """Branch, tag or commit of a Hub id."""
    family: str | None = None
    """Read the weights as this family, my_package.my_file:FAMILY say, whatever their model_type."""
    attention: Literal["auto", "xla", "cudnn", "splash"] = "auto"
    """Kernel of attention; auto chooses by device and shape."""
    scratch: Scratch | None = None
    """Shape of a model that is made and trained here."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of the forward pass; losses are float32 in any case."""
    param_dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the weights; bfloat16 halves weights and gradients, and rounds stochastically."""
    remat: Literal["none", "dots", "full"] = "none"
    """What the backward pass computes again to save memory; dots keeps linear layers' outputs."""


class Data(_Section):
    """What to forget and what to keep."""

    benchmark: Literal["toy", "shop", "tofu", "muse", "rwku", "wmdp", "files"] = "files"
    """toy and shop: invented people and listings; tofu, muse, rwku and wmdp: the files of these
    benchmarks in `dir`; files: your own `forget` and `retain`."""
    dir: str | None = None
    """Folder or URL of a benchmark's files."""
    forget: str | None = None
    """files: path, URL or Hub id of the rows to forget; tofu: the split, such as forget10; muse:
    subset and split, such as raw/forget, scal/forget_2 or sust/forget_3; rwku: the people, such as
    1_Stephen_King; wmdp: the corpora, such as bio; shop: its size, small, medium or large."""
    retain: str | None = None
    """files: path, URL or Hub id of the rows to keep; tofu: the split, null taking the one that
    goes with the forget split; muse: subset and split, null taking raw/retain1; wmdp: the corpora,
    such as wikitext; rwku: path of rows to keep, of which it has none."""
    questions: Literal["plain", "paraphrased"] = "plain"
    """tofu: ask the questions as they were trained, or in other words."""
    holdout: str | None = None
    """files: path, URL or Hub id of rows like those to forget that no model has seen."""
    texts: str | None = None
    """rwku: path of texts to forget in place of the people's passages."""
    template: Literal["auto", "plain", "chat", "llama2"] = "auto"
    """How a question becomes a prompt; auto takes the tokenizer's chat template if it has one, else
    plain; llama2 is the published form of TOFU's Llama-2 models, [INST] question [/INST]answer."""
    pad_mask: Literal["exact", "eos_as_pad"] = "exact"
    """Attention sees every token of a row, or not those that look like padding where padding is
    found by its id: the pad token, or else the end token, which closes earlier turns of a chat;
    eos_as_pad is the mask of open-unlearning and of the models and logs published with it."""
    system: str | None = None
    """Chat templates: a system prompt before every question, such as You are a helpful assistant.;
    null leaves it to the template."""
    refusals: str | None = None
    """Path or URL of a file with a refusal on each line, for methods that teach some; null takes
    the usual ones."""
    alternates: str | None = None
    """Path, URL or Hub id of rows that give "alternates", other answers, to the forget questions;
    null takes those of the forget rows. `unilogit generate` writes such a file."""
    names: str | None = None
    """Path or URL of a file with an invented name on each line, for method.tau name_swap; null
    takes the toy's own, or the "names" of retain rows."""
    max_length: Count = 512
    """Longest row in tokens; longer rows are cut."""
    seed: Seed = 0
    """Seed of generated benchmarks."""


class Training(_Section):
    """One training stage. Batch sizes are global, over all devices."""

    steps: Count | None = None
    """Number of updates; null means `epochs` passes."""
    epochs: Positive = 5.0
    """Passes over the rows (of the forget set, when unlearning)."""
    batch_size: Count = 32
    """Rows per update (forget rows, when unlearning)."""
    retain_ratio: Annotated[float, Field(ge=0, le=1e6)] = 1.0
    """Retain rows per forget row, when unlearning."""
    retain_sampling: Literal["cycled", "drawn"] = "cycled"
    """Go through the retain rows pass by pass, or draw them anew for every update."""
    packing: Count | None = None
    """Put several rows into one of about so many tokens (1024 on accelerators); null does not."""
    microbatches: Count = 1
    """Parts that a batch is cut into to save memory; the update is the same."""
    optimizer: Literal["adamw", "adafactor", "lion", "sgd"] = "adamw"
    """adamw keeps two numbers per weight, lion one, adafactor one per row and column, sgd none."""
    learning_rate: Positive = 1e-5
    """Peak learning rate."""
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    """Shape of the decay to zero after the warm-up."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the updates that warm up."""
    weight_decay: NonNegative = 0.01
    """Decoupled weight decay, on matrices only."""
    clip: Positive | None = 1.0
    """Largest global gradient norm; null does not clip."""
    trainable: Annotated[tuple[str, ...], Field(min_length=1)] = ("*",)
    """Patterns of the weights that are trained, such as layers.5-7.mlp.down_proj, embed or *."""
    learning_rates: dict[str, Positive] = {}
    """Pattern -> factor of the learning rate; of several that fit a weight the last one counts."""
    max_skipped: Count = 10
    """Updates in a row that may be skipped because loss or gradient is not finite."""

    @property
    def retain_size(self) -> int:
        """Retain rows per update, when unlearning."""
        return round(self.batch_size * self.retain_ratio)

    def rows(self, method: Method) -> int:
        """Rows per update, when unlearning; other answers to questions included."""
        return method.needs.rows(self.batch_size, self.retain_size)


class Lora(_Section):
    """Low-rank adapters: the weights stay as they are, and factors beside them are trained."""

    rank: Count = 8
    """Inner size of the factors."""
    alpha: Positive = 16.0
    """The addition is multiplied by alpha / rank."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the factors' inputs that training drops."""
    targets: tuple[str, ...] = ("q_proj", "v_proj")
    """Patterns over linear layers, such as q_proj, layers.mlp.* or *."""


class Mesh(_Section):
    """Sizes of the device mesh; one of them may be -1, all devices that remain."""

    data: Size = 1
    """Copies of the weights, rows divided among them."""
    fsdp: Size = -1
    """Weights and rows divided."""
    tensor: Size = 1
    """Weights divided within layers."""


class Evaluation(_Section):
    """What is measured before and after."""

    gold: StrictBool = False
    """Also train the gold model, which never saw the forget rows (scratch models only)."""
    max_new_tokens: Count = 64
    """Longest generated answer."""
    max_items: Count | None = None
    """At most this many forget and this many retain items are measured; null means all."""
    batch_size: Count = 64
    """Rows per forward pass."""
    reference: str | None = None
    """What forget quality and privleak are measured against: the log or the run of a model that
    never saw the forget rows; null takes the gold model where there is one."""
    grad_norm: StrictBool = False
    """Also attack membership by the norm of each item's gradient: a backward pass for each item of
    two panels, for the log (`tofu` with its holdout file, `muse`, own files with `holdout`)."""


class Watch(_Section):
    """Evaluate while unlearning too, to stop early and to keep the best weights."""

    every: Count = 50
    """Updates between evaluations."""
    utility: Literal["retain_probability", "retain_rouge_l", "retain_exact_match"] = (
        "retain_probability"
    )
    """The number that must not fall."""
    utility_floor: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of the utility before: below it unlearning ends; the weights kept are those above it
    that have forgotten most. null keeps the last weights."""
    forget: Literal[
        "forget_probability", "forget_rouge_l", "forget_exact_match", "forget_choice"
    ] = "forget_probability"
    """The number that shall fall."""
    forget_target: NonNegative | None = None
    """Unlearning ends once that number is so small."""


class Output(_Section):
    """Where the run goes."""

    dir: str = "runs"
    """Parent folder, on a disk or at gs://; each run makes its own folder in it."""
    checkpoint_every: Count = 100
    """Updates between checkpoints."""
    keep_checkpoints: Count = 1
    """Checkpoints kept per stage."""
    log_every: Count = 10
    """Updates between two lines of metrics.jsonl."""
    trackers: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ()
    """Programs that show these numbers too, while they come: tensorboard, wandb, trackio."""
    profile: StrictBool = False
    """Write a profiler trace of a few updates of each stage; the same as --profile."""
    seed: Seed = 0
    """Seed of initial weights and of the order of rows."""


class Experiment(_Section):
    """A complete experiment. One file serves every verb."""

    name: str
    """Becomes part of the run folder's name."""
    model: Model
    """The weights to start from."""
    data: Data
    """What to forget and what to keep."""
    method: MethodConfig = Unilogit()
    """How to unlearn; `name` is one of `unilogit ls methods`, or my_package.my_file:MyMethod."""
    compare: tuple[MethodConfig, ...] = ()
    """Further methods to run from the same start, for comparison."""
    finetune: Training = Training()
    """How models made from scratch (and `unilogit finetune`) are trained."""
    unlearn: Training = Training()
    """How unlearning is run."""
    lora: Lora | None = None
    """Unlearn with low-rank adapters, which are merged at the end; null trains all weights."""
    watch: Watch | None = None
    """Evaluate while unlearning too; null evaluates before and after."""
    mesh: Mesh = Mesh()
    """The device mesh."""
    eval: Evaluation = Evaluation()
    """What is measured."""
    output: Output = Output()
    """Where the run goes."""

    @property
    def methods(self) -> tuple[Method, ...]:
        """All methods to run."""
        return (self.method, *self.compare)

    @model_validator(mode="after")
    def _consistent(self) -> "Experiment":
        problems = problems_of(self)
        if problems:
            raise ValueError("; ".join(problems))
        return self
