"""Policies: loading, running and saving Hugging Face causal language models."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers.cache_utils import DynamicLayer

from trainer.attention import SDPA_FLOAT64
from trainer.chat import ChatFormat, Conversation
from trainer.hashes import HASH_FILE, damage

__all__ = ["DynamicLayer"]
SHIPPED = {"countdown-0.2m": Path(__file__).parent / "base_models" / "countdown-0.2m"}
# Below this many parameters a second CPU thread costs more than it brings.
SMALL = 5_000_000


@dataclass(frozen=True)
class Policy:
    """A causal language model with its tokenizer.

    Args:
        model: the network, in evaluation mode: with dropout, ratios of unchanged weights would not be 1.
        tokenizer: its tokenizer.
        stop_ids: token ids that end a completion.
        context_length: the longest sequence the model takes, in tokens.
        chat: how prompts become conversations; None for plain text.
        network: what is called in place of the model, such as one whose weights several processes share; None calls
            the model itself.
    """

    model: Any
    tokenizer: Any
    stop_ids: tuple[int, ...]
    context_length: int
    chat: ChatFormat | None = None
    network: Any = None

    def __call__(self, **inputs: Any) -> Any:
        """Return the model's output, computed in the type it was loaded for."""
        with computing(self.model):
            return (self.network or self.model)(**inputs)

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.model.parameters()).device

    def encode(self, prompts: Sequence[str | Conversation]) -> list[list[int]]:
        """Return the token ids of each prompt, special tokens as the tokenizer or its chat template adds them."""
        if self.chat is not None:
            return self.chat.encode(self.tokenizer, prompts)
        return [list(ids) for ids in self.tokenizer(list(prompts), return_attention_mask=False)["input_ids"]]

    def decode(self, completion_ids: Sequence[Sequence[int]]) -> list[str]:
        """Return the text of each completion without its end token.

        Other special tokens are kept: what is scored is what was generated.
        """
        bare = [ids[:-1] if ids and ids[-1] in self.stop_ids else ids for ids in completion_ids]
        return self.tokenizer.batch_decode(bare, skip_special_tokens=False)

    def save(self, folder: Path, weights: dict[str, Tensor] | None = None) -> None:
        """Write model and tokenizer in Hugging Face format; weights by name, where the model itself holds shards."""
        self.model.save_pretrained(folder, **({} if weights is None else {"state_dict": weights}))
        self.tokenizer.save_pretrained(folder)


def load_policy(
    name: str,
    *,
    dtype: str = "float32",
    weights: str = "auto",
    device: str = "auto",
    attention: str = "auto",
    gradient_checkpointing: bool = False,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> Policy:
    """Return the policy in a folder, on the hub, or shipped with this package.

    Args:
        name: a folder with `config.json`, a hub id such as `Qwen/Qwen3-0.6B`, or a shipped model (`countdown-0.2m`).
        dtype: type of the computation: float32, float64 or bfloat16.
        weights: type of the weights: float32 or bfloat16; `auto` is float64 for a float64 computation, else float32.
        device: a torch device, or `auto` for the first GPU where there is one.
        attention: an attention implementation of transformers, `sdpa_float64`, or `auto`: `sdpa_float64` for float32 on
            the CPU, where it costs little, and `sdpa` elsewhere.
        gradient_checkpointing: have the layers recompute their activations in the backward pass.
        revision: branch, tag or commit on the hub.
        trust_remote_code: run code that comes with the model's files.

    Raises:
        FileNotFoundError: no such folder, and no such model on the hub (or the hub is out of reach).
        ValueError: a shipped model whose files do not match their hashes, or a type and attention that do not go
            together.
    """
    source = model_source(name)
    if name in SHIPPED and (fault := damage(Path(source))):
        raise ValueError(
            f"load_policy(name={name!r}) must find the files that {HASH_FILE} lists; got damage: {fault}. "
            "Reinstall the package, or load the folder by its path if the change is yours."
        )
    if (dtype, attention) == ("float64", "eager"):
        raise ValueError(
            "load_policy(dtype='float64', attention='eager') must not be combined: transformers' eager softmax is "
            "float32, and the mask of a padded prompt overflows there. Set model.attention: sdpa."
        )
    device = usable_device(device)
    if attention == "auto":
        preferred = SDPA_FLOAT64 if (device, dtype) == ("cpu", "float32") else "sdpa"
        # Some architectures have no attention but their own.
        choices = [preferred, "eager"]
    else:
        choices = [attention]
    transformers.utils.logging.disable_progress_bar()
    origin = {"revision": revision, "trust_remote_code": trust_remote_code}
    kept = {"auto": torch.float64 if dtype == "float64" else torch.float32, "float32": torch.float32}
    try:
        model = read_model(source, choices, dtype=kept.get(weights, torch.bfloat16), **origin)
        tokenizer = transformers.AutoTokenizer.from_pretrained(source, **origin)
    except (ImportError, KeyError, OSError, ValueError, SafetensorError) as error:
        raise not_loaded(error, name, attention) from error
    if len(tokenizer) < 2:
        raise FileNotFoundError(
            f"load_policy(name={name!r}) must name a model with its tokenizer; got a tokenizer without tokens. "
            "Save the tokenizer beside the model, and check model.path."
        )
    model = model.to(device).eval()
    model.entrocraft_dtype = dtype
    if gradient_checkpointing:
        recompute_activations(model, name)
    return Policy(model, tokenizer, stop_ids(model, tokenizer), context_length(model))


def not_loaded(error: Exception, name: str, attention: str) -> Exception:
    """Return what to raise where transformers could not load a model with this attention."""
    where = f"load_policy(name={name!r}, attention={attention!r})"
    if isinstance(error, ImportError):
        return ImportError(
            f"{where} needs a package that is not installed; got: {first_line(error)}. Install it, or set "
            "model.attention: sdpa."
        )
    # Older architectures say no more than the name that they do not know.
    if "attn_implementation" in str(error) or error.args == (attention,):
        return ValueError(
            f"{where} must name an attention that the architecture has. Set model.attention: auto, sdpa or eager."
        )
    return FileNotFoundError(
        f"load_policy(name={name!r}) must name a model and tokenizer in Hugging Face format; got: "
        f"{str(error).splitlines()[0]} Check model.path, or the connection to the hub."
    )


def first_line(error: Exception) -> str:
    """Return the first line of what an error says, without its full stop."""
    return str(error).splitlines()[0].rstrip(".")


def model_source(name: str) -> str:
    """Return what transformers calls the model of this name: a folder, or a hub id.

    Raises:
        FileNotFoundError: neither a hub id nor a folder that exists.
    """
    folder = SHIPPED.get(name, Path(name))
    if not folder.is_dir() and (folder.is_absolute() or name.startswith((".", "~")) or name.count("/") != 1):
        raise FileNotFoundError(
            f"load_policy(name={name!r}) must name a folder, a hub id (owner/model) or one of {sorted(SHIPPED)}; "
            "got a folder that does not exist. Check model.path."
        )
    return str(folder) if folder.is_dir() else name


def set_threads(threads: int, policy: Policy) -> None:
    """Set torch's CPU threads; 0 takes one for a small model and torch's own choice for others."""
    parameters = sum(parameter.numel() for parameter in policy.model.parameters())
    if threads or parameters < SMALL:
        torch.set_num_threads(threads or 1)


def with_lora(policy: Policy, *, rank: int, alpha: float, seed: int, checkpoint: Path | None = None) -> Policy:
    """Return the policy with low-rank adapters on its linear layers, the only parameters that train.

    Args:
        policy: the base model; its weights are frozen.
        rank: rank of the adapters.
        alpha: their scale times their rank.
        seed: draws the adapters' initial values.
        checkpoint: a folder with saved adapters to go on from.

    Raises:
        ImportError: without the extra `lora`.
    """
    try:
        import peft
    except ImportError as error:
        raise ImportError(
            "model.lora_rank needs the package peft. Install entrocraft[lora], or set it to 0."
        ) from error
    if checkpoint is not None:
        model = peft.PeftModel.from_pretrained(policy.model, checkpoint, is_trainable=True)
    else:
        settings = peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules="all-linear", task_type="CAUSAL_LM")
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = peft.get_peft_model(policy.model, settings)
    for config in model.peft_config.values():
        # A set's order changes from one process to the next, and a checkpoint's bytes with it.
        if isinstance(config.target_modules, set):
            config.target_modules = sorted(config.target_modules)
    return replace(policy, model=model.eval())


def stop_ids(model: Any, tokenizer: Any) -> tuple[int, ...]:
    """Return the ids that end a completion: the tokenizer's end token and those of the model's generation config."""
    configured = model.generation_config.eos_token_id
    ids = {tokenizer.eos_token_id, *(configured if isinstance(configured, list) else [configured])} - {None}
    if not ids:
        raise ValueError("load_policy: the model must have an end token; got none. Set eos_token in its tokenizer.")
    return tuple(sorted(ids))


def context_length(model: Any) -> int:
    """Return the longest sequence the model's configuration allows."""
    return int(getattr(model.config, "max_position_embeddings", None) or 2**31)


def read_model(source: str, attentions: Sequence[str], **options: Any) -> Any:
    """Return the model with the first of these attention implementations that its architecture has."""
    for attention in attentions[:-1]:
        # Older architectures look an attention up in a mapping of their own.
        with suppress(ValueError, KeyError):
            return transformers.AutoModelForCausalLM.from_pretrained(source, attn_implementation=attention, **options)
    return transformers.AutoModelForCausalLM.from_pretrained(source, attn_implementation=attentions[-1], **options)


def recompute_activations(model: Any, name: str) -> None:
    """Turn gradient checkpointing on.

    Raises:
        ValueError: an architecture without it, or one whose layers are not the same in training mode.
    """
    if not getattr(model, "supports_gradient_checkpointing", False):
        raise ValueError(
            f"load_policy(name={name!r}, gradient_checkpointing=True) must name an architecture that has it; got "
            f"{type(model).__name__}. Set model.gradient_checkpointing: false."
        )
    # Its name since transformers 5, with the same first argument.
    name_now = "activation_checkpointing_enable"
    enable = getattr(model, name_now if hasattr(model, name_now) else "gradient_checkpointing_enable")
    enable({"use_reentrant": False})
    layers = checkpointed_layers(model)
    if not layers or any(dropout_of(layer) for layer in layers):
        raise ValueError(
            f"load_policy(name={name!r}, gradient_checkpointing=True) must name a model whose layers recompute "
            "themselves without dropout; got one that does not. Set the dropout in its config.json to 0, or "
            "model.gradient_checkpointing: false."
        )


def checkpointed_layers(model: Any) -> list[nn.Module]:
    """Return the layers that recompute themselves in training mode."""
    return [module for module in model.modules() if getattr(module, "gradient_checkpointing", False)]


def dropout_of(layer: nn.Module) -> float:
    """Return the greatest share that the layer's own code drops in training mode; submodules stay in evaluation mode.

    Such code reads the share from an attribute of the layer: a number called after dropout.
    """
    shares = [value for name, value in vars(layer).items() if "dropout" in name and isinstance(value, float)]
    return max(shares, default=0.0)


def computing(model: Any) -> AbstractContextManager[Any]:
    """Return the context in which the model computes in the type it was loaded for."""
    if getattr(model, "entrocraft_dtype", None) != "bfloat16":
        return nullcontext()
    return torch.autocast(next(model.parameters()).device.type, dtype=torch.bfloat16)


@contextmanager
def in_full_precision(model: Any) -> Iterator[None]:
    """Compute in float32 for a while where the weights have it, also in a model that was loaded to compute in less."""
    kind = getattr(model, "entrocraft_dtype", None)
    whole = all(parameter.dtype == torch.float32 for parameter in model.parameters())
    if kind == "bfloat16" and whole:
        model.entrocraft_dtype = "float32"
    try:
        yield
    finally:
        model.entrocraft_dtype = kind


def at_least_float32(logits: Tensor) -> Tensor:
    """Return logits in float32, or as they are in float64: log-probabilities in bf16 would bias importance ratios."""
    return logits if logits.dtype == torch.float64 else logits.float()


def usable_device(name: str) -> str:
    """Return the device of this name, or for `auto` the first GPU where there is one, else the CPU.

    Raises:
        ValueError: no such device.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"model.device={name!r} must be a device of this machine; got: {first_line(error)}. "
            "Set it to auto, cpu, or a GPU such as cuda:0."
        ) from error
    return name


def completion_logits(
    model: Any, tokens: Tensor, attention: Tensor, completion_length: int, temperature: float
) -> Tensor:
    """Return the float32 logits that predict the last `completion_length` tokens, divided by the temperature.

    Args:
        model: the policy's network.
        tokens: `[B, L]` token ids, prompts padded on the left, completions on the right.
        attention: `[B, L]`, True on real tokens; positions are counted over these, never by token value.
        completion_length: T, the length of the completion block at the end of `tokens`.
        temperature: the sampling temperature.

    Returns:
        `[B, T, V]`, float32 (float64 for a float64 model).
    """
    with computing(model):
        output = model(
            input_ids=tokens[:, :-1],
            attention_mask=attention[:, :-1].long(),
            position_ids=positions(attention)[:, :-1],
            logits_to_keep=completion_length,
            use_cache=False,
        )
    return at_least_float32(output.logits) / temperature


def positions(attention: Tensor) -> Tensor:
    """Return the position of each token, counted over real tokens only: `[B, L]` from a `[B, L]` mask."""
    return (attention.long().cumsum(-1) - 1).clamp(min=0)
