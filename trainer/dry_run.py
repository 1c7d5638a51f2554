"""The text of `entrocraft train --dry-run`."""

from trainer.algorithm import build_schedule, unreachable
from trainer.config import TrainConfig
from trainer.estimate import Bytes, peak, trainable_parameters
from trainer.forecast import Forecast, evaluates, knobs
from trainer.operations import operations

GIB, MIB = 2**30, 2**20
# Part of a device's memory that a run can fill: the rest goes to the device's own context and to fragments.
USABLE = 0.9


def report(found: Forecast, device_memory: float | None) -> str:
    """Return the text of `entrocraft train --dry-run`.

    Args:
        found: what the run would need.
        device_memory: GiB of one device; None where it is not known.
    """
    verdict = [] if device_memory is None else fitting(found, device_memory)
    return "\n".join([*described(found), "", *table(found), *verdict])


def described(found: Forecast) -> list[str]:
    """Return the lines on model, step and run."""
    config, shape, sizes = found.config, found.shape, found.sizes
    trainable = trainable_parameters(shape, sizes.lora_rank)
    adapters = f", LoRA of rank {sizes.lora_rank}" if sizes.lora_rank else ""
    work = operations(shape, sizes)
    total = sum(work.values())
    parts = ", ".join(f"{name} {value / total:.0%}" for name, value in work.items())
    trained = sizes.rows * sizes.new_tokens * sizes.epochs
    tokens = [sizes.prompts * sizes.prompt_tokens, sizes.rows * sizes.new_tokens, trained]
    prompts = config.steps * sizes.prompts
    passes = "" if found.rows is None else f", {prompts / found.rows:.2f} passes over {found.rows:,} prompts"
    shared = f"; {sizes.processes} processes, {config.model.parallel}" if sizes.processes > 1 else ""
    every, chosen = config.evaluation.every, config.evaluation
    times = 1 + chosen.at_start + ((config.steps - 1) // every if every else 0)
    completions = chosen.prompts * chosen.samples * len(chosen.settings)
    return [
        f"model       {config.model.path}: {shape.parameters:,} parameters, {trainable:,} trained{adapters}{shared}",
        f"step        {sizes.prompts} prompts x {sizes.group_size}, prompts of up to {sizes.prompt_tokens} tokens, "
        f"completions of up to {sizes.new_tokens}",
        f"tokens      a step, at most: {tokens[0]:,} of prompts, {tokens[1]:,} generated, {tokens[2]:,} trained",
        f"operations  a step, at most: {total / 1e12:,.3g} TFLOP ({parts})",
        f"run         {config.steps} steps, {prompts:,} prompts{passes}; at most {config.steps * total / 1e15:,.3g} "
        "PFLOP",
        f"evaluation  {times} of {completions:,} completions of each held-out set"
        if evaluates(config)
        else "evaluation  none",
        *band_lines(config, shape.vocabulary),
    ]


def band_lines(config: TrainConfig, vocabulary: int) -> list[str]:
    """Return the lines on where entropy is wanted: at the first, the middle and the last step."""
    band, steps, schedule = config.band, config.steps, build_schedule(config)
    shown = {step: schedule(step / steps) for step in (0, steps // 2, steps - 1)}
    bounds = ", ".join(f"step {step} [{found.low:.4g}, {found.high:.4g}]" for step, found in shown.items())
    unit = "nats" if band.unit == "nats" else "in units of the base model's entropy"
    joined = ""
    if band.warm_start:
        joined = f"; before step {band.warm_start * steps:g} on the way there from the first batch's entropy"
    warning = unreachable(schedule, steps, 1.0, vocabulary) if band.unit == "nats" else None
    lines = [f"band        {band.schedule}, {unit}: {bounds}{joined}"]
    return lines if warning is None else [*lines, f"            {warning}"]


def table(found: Forecast) -> list[str]:
    """Return the lines on memory."""
    width = max(map(len, found.items)) + 2
    each = " of each process" if found.sizes.processes > 1 else ""
    unit, name = (GIB, "GiB") if peak(found.items) >= GIB else (MIB, "MiB")
    sums = Bytes(*(sum(getattr(item, phase) for item in found.items.values()) for phase in ("sampling", "update")))
    phase = "sampling" if sums.sampling > sums.update else "update"
    lines = [
        f"  {label:{width}}{item.sampling / unit:10.2f}{item.update / unit:10.2f}"
        for label, item in [*found.items.items(), ("together", sums)]
    ]
    return [
        f"{name + each:{width + 2}}{'sampling':>10}{'update':>10}",
        *lines,
        f"peak        {peak(found.items) / unit:.2f} {name}, {phase}; "
        f"{found.sizes.decoded_rows} completions decoded at once, {found.sizes.micro_rows} rows in a micro-batch",
    ]


def fitting(found: Forecast, device_memory: float) -> list[str]:
    """Return the lines that say whether the run fits a device, and which settings would make it smaller."""
    room = USABLE * device_memory * GIB
    if peak(found.items) <= room:
        return [f"device      {device_memory:g} GiB, of which {room / GIB:.1f} are counted on: it fits"]
    turned = knobs(found, room)
    width = max((len(f"{knob.name}={knob.value}") for knob in turned), default=0)
    lines = [
        f"  --{f'{knob.name}={knob.value}'.replace('=True', '=true').replace('=False', '=false'):{width}}"
        f"{knob.peak / GIB:10.2f} GiB{'' if knob.free else ', changes the run'}"
        for knob in turned
    ]
    enough = bool(turned) and turned[-1].peak <= room
    return [
        f"device      {device_memory:g} GiB, of which {room / GIB:.1f} are counted on: it does not fit",
        f"what would {'make it fit' if enough else 'bring it nearest'}, each on top of those before it:",
        *lines,
    ]
