"""What every public function refuses, in its own words; what it must not refuse; and torch's transforms.

pytest's jaxtyping hook refuses wrong shapes and types before the functions see them. So the cases run once, with this
file as a program of its own, in an interpreter without the hook; the tests look at what came of each.
"""

import json
import math
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

import entropy_theory as et

INF, NAN = math.inf, math.nan
ORDERS = et.first_order_change, et.second_order_change, et.third_order_change
# Every public function of logits, as one of (logits, token, a value an arm), and one tensor of its result.
CALLS = {
    **{f.__name__: lambda z, k, d, f=f: f(z) for f in (et.entropy, et.drift_coefficient, et.response_entropy)},
    "policy_of": lambda z, k, d: et.policy_of(z).entropy,
    "entropy_bonus_change": lambda z, k, d: et.entropy_bonus_change(z, 0.1, 0.1),
    "every_token": lambda z, k, d: et.every_token(z).influence[..., 0],
    "sampled_changes": lambda z, k, d: et.sampled_changes(z, 0.1)[..., 0],
    **{f.__name__: lambda z, k, d, f=f: f(z, d) for f in (et.entropy_change, *ORDERS)},
    "remainder_bound": lambda z, k, d: et.remainder_bound(z, d).second_order,
    "expected_change": lambda z, k, d: et.expected_change(z, d, 0.1, 2, 2),
    "expected_natural_gradient_change": lambda z, k, d: et.expected_natural_gradient_change(z, d, 0.1),
    "theorem1": lambda z, k, d: et.theorem1(z, k, d).change,
    "theorem2": lambda z, k, d: et.theorem2(z, k, d).change,
    "measured_theorem1": lambda z, k, d: et.measured_theorem1(z, 1.1 * z, k).change,
    "sampled_token_delta": lambda z, k, d: et.sampled_token_delta(z, k, 0.1)[..., 0],
    "natural_gradient_change": lambda z, k, d: et.natural_gradient_change(z, k, 0.1),
    "token_statistics": lambda z, k, d: et.token_statistics(z, k).mean_discriminator,
    "chunked_token_statistics": lambda z, k, d: et.chunked_token_statistics(z, k, 2).mean_discriminator,
    "fused_token_statistics": lambda z, k, d: et.fused_token_statistics(z, eye(z), k, 2).mean_discriminator,
}
BY_BLOCKS = {"chunked_token_statistics", "fused_token_statistics"}
ENUMERATED = ("enumerated_entropy", "chain_rule_entropy")
WITH_STEP, WITH_TOKEN = list(CALLS)[7:16], list(CALLS)[14:]
ARGUMENTS = {  # where they are not called logits, token and delta
    "theorem2": {"token": "tokens)"},
    "measured_theorem1": {"logits": "before)"},
    "expected_change": {"delta": "advantages)"},
    "expected_natural_gradient_change": {"delta": "advantages)"},
    "entropy_change": {"delta": ""},  # delta, or logits + delta
    "chunked_token_statistics": {"logits": ""},  # or the size of the vocabulary
    "fused_token_statistics": {"logits": ""},  # hidden or weight
}


def eye(logits):
    return torch.eye(logits.shape[-1] if logits.ndim else 1, dtype=logits.dtype)


def second(*values):
    """Two rows, the first of which is in order."""
    return torch.tensor([[0.0, 1.0, 2.0], values])


def tensors_refused():
    """Yield (function, case, call, exception, what the message holds) for bad logits, tokens and values an arm."""
    z, k, d, where = torch.zeros(2, 3), torch.tensor([0, 1]), torch.zeros(2, 3), ["1 of 2", "(1,)"]
    bad_logits = [
        ("integers", d.long(), TypeError, ["must be floating-point", "int64"]),
        ("no arms", torch.zeros(2, 0), ValueError, ["at least one", "[2, 0]"]),
        ("no axis", torch.tensor(1.0), ValueError, ["shape []"]),
        ("NaN", second(0.0, NAN, 1.0), ValueError, ["finite", *where]),
        ("+inf", second(0.0, INF, 1.0), ValueError, ["finite", *where]),
        ("all masked", second(-INF, -INF, -INF), ValueError, ["finite", *where]),
    ]
    bad_tokens = [
        ("negative", torch.tensor([0, -1]), ValueError, ["be in 0..2", *where]),
        ("too large", torch.tensor([0, 3]), ValueError, ["be in 0..2", *where]),
        ("float", k.float(), TypeError, ["must be integers", "float32"]),
        ("boolean", k.bool(), TypeError, ["must be integers", "bool"]),
        ("of another shape", k[:, None], ValueError, ["shape", "[2]", "[2, 1]"]),
        ("of another number", k.repeat(2), ValueError, ["shape", "[2]", "[4]"]),
    ]
    bad_steps = [
        ("of another shape", torch.zeros(3), ValueError, ["shape", "[2, 3]", "[3]"]),
        ("NaN", second(0.0, NAN, 0.0), ValueError, ["finite", *where]),
        ("+inf", second(0.0, INF, 0.0), ValueError, ["finite", *where]),
        ("-inf", second(0.0, -INF, 0.0), ValueError, ["finite", *where]),
    ]
    for name, call in CALLS.items():
        names = {"logits": "logits)", "token": "token)", "delta": "delta)", **ARGUMENTS.get(name, {})}
        for what, bad, kind, said in bad_logits:
            call_it = partial(call, bad, torch.zeros(bad.shape[:-1], dtype=torch.long), torch.zeros(bad.shape))
            said = [] if name in BY_BLOCKS and what == "no arms" else said  # said in terms of blocks
            yield name, f"logits {what}", call_it, kind, [names["logits"], *said]
        for what, bad, kind, said in bad_tokens if name in WITH_TOKEN else []:
            yield name, f"token {what}", partial(call, z, bad, d), kind, [names["token"], *said]
        for what, bad, kind, said in bad_steps if name in WITH_STEP else []:
            if (name, what) != ("entropy_change", "-inf"):  # a step may mask an arm
                yield name, f"delta {what}", partial(call, z, k, bad), kind, [names["delta"], *said]
        if name in ("theorem1", "theorem2", "natural_gradient_change"):
            call_it = partial(call, second(0.0, -INF, 1.0), k, d)
            yield name, "token masked", call_it, ValueError, [names["token"], "not be masked", *where]


def others_refused():
    """Yield the same for numbers, masks, sizes, policies of a sequence and steps in parameter space."""
    z, k, mask = torch.zeros(2, 3), torch.tensor([0, 1]), torch.tensor([True, False])
    for rate in (0.0, -0.1, INF, NAN):
        for name, call in (
            ("expected_change", partial(et.expected_change, z, z, rate)),
            ("expected_natural_gradient_change", partial(et.expected_natural_gradient_change, z, z, rate)),
            ("entropy_bonus_change", partial(et.entropy_bonus_change, z, 0.1, rate)),
        ):
            yield name, f"rate {rate}", call, ValueError, [f"learning_rate={rate}", "above 0"]
        yield "directional_change", f"epsilon {rate}", partial(along, epsilon=rate), ValueError, [f"epsilon={rate}"]
    for group, order, said in ((0, 1, "group_size=0"), (-1, 1, "group_size=-1"), (1, 0, "order=0"), (1, 3, "order=3")):
        yield "expected_change", said, partial(et.expected_change, z, z, 0.1, group, order), ValueError, [said]
    for bad in (NAN, INF):
        call = partial(et.entropy_bonus_change, z, bad, 0.1)
        yield "entropy_bonus_change", f"alpha {bad}", call, ValueError, [f"coefficient={bad}", "finite"]
        for name in ("natural_gradient_change", "sampled_token_delta"):
            yield name, f"step {bad}", partial(getattr(et, name), z, k, bad), ValueError, [f"step={bad}", "finite"]
        call = partial(et.sampled_changes, z, bad)
        yield "sampled_changes", f"step {bad}", call, ValueError, [f"step={bad}", "finite"]
    for what, step, said in (("NaN", torch.tensor([0.1, NAN]), "finite"), ("shape", torch.ones(2, 1), "[2, 1]")):
        yield "sampled_token_delta", f"steps {what}", partial(et.sampled_token_delta, z, k, step), ValueError, [said]
    yield "chunked_token_statistics", "block", partial(et.chunked_token_statistics, z, k, 0), ValueError, ["block=0"]
    for what, hidden, block, said in (("width", torch.zeros(2, 4), 2, ["4", "3"]), ("block", z, 0, ["block=0"])):
        call = partial(et.fused_token_statistics, hidden, torch.eye(3), k, block)
        yield "fused_token_statistics", what, call, ValueError, said
    for what, row, shape in (("no tokens", slice(0), "[0, 3]"), ("no axis of tokens", 0, "[3]")):
        call = partial(et.theorem2, z[row], k[row], z[row])
        yield "theorem2", what, call, ValueError, ["logits)", "at least one token", shape]
    for what, after, said in (
        ("shape", z[:, :2], ["after)", "shape of before, [2, 3]", "[2, 2]"]),
        ("NaN", second(0.0, NAN, 1.0), ["after)", "finite", "(1,)"]),
        ("token masked", second(0.0, -INF, 1.0), ["token)", "not be masked", "(1,)"]),
    ):
        yield "measured_theorem1", f"after {what}", partial(et.measured_theorem1, z, after, k), ValueError, said
    call = partial(et.measured_theorem2, et.measured_theorem1(z, z, k), mask[:1])
    yield "measured_theorem2", "mask", call, ValueError, ["mask)", "[2]", "[1]"]
    for what, logits, bad, kind, said in (
        ("integers", z, mask.long(), TypeError, ["mask)", "boolean", "int64"]),
        ("float", z, mask.float(), TypeError, ["mask)", "boolean", "float32"]),
        ("shape", z, mask[:1], ValueError, ["mask)", "[2]", "[1]"]),
        ("NaN where it counts", second(0.0, NAN, 1.0), ~mask, ValueError, ["logits)", "finite", "(1,)"]),
    ):
        yield "response_entropy", f"mask {what}", partial(et.response_entropy, logits, bad), kind, said
    for name in ENUMERATED:
        for sizes in ((0, 2), (2, 0), (-1, 2), (10, 6)):
            call = partial(getattr(et, name), lambda prefix: torch.zeros(10), *sizes)
            yield name, f"sizes {sizes}", call, ValueError, [f"vocabulary={sizes[0]}, length={sizes[1]}", "100000"]
        for what, logits, kind, said in (
            ("too few", torch.zeros(2), ValueError, ["(prefix=())", "[3]", "[2]"]),
            ("an axis too many", torch.zeros(1, 3), ValueError, ["(prefix=())", "[3]", "[1, 3]"]),
            ("NaN", torch.tensor([0.0, NAN, 1.0]), ValueError, ["finite logit"]),
            ("all masked", torch.full((3,), -INF), ValueError, ["finite logit"]),
            ("integers", torch.zeros(3, dtype=torch.long), TypeError, ["floating-point"]),
        ):
            yield name, f"next logits {what}", partial(getattr(et, name), lambda p, z=logits: z, 3, 2), kind, said
    for what, changed, said in (
        ("unknown name", {"step": {"wight": torch.ones(3, 2)}}, ["step)", "name parameters", "['wight']"]),
        ("no step", {"step": {}}, ["step)", "at least one", "none"]),
        ("step shape", {"step": {"weight": torch.ones(2, 3)}}, ["step['weight'])", "[3, 2]", "[2, 3]"]),
        ("step NaN", {"step": {"weight": torch.full((3, 2), NAN)}}, ["step['weight'])", "finite", "6 of 6", "(0, 0)"]),
        ("step inf", {"step": {"bias": torch.tensor([0.0, INF, 0.0])}}, ["step['bias'])", "finite", "(1,)"]),
        ("entropy of rows", {"entropy_of": lambda m: et.entropy(m(torch.ones(4, 2)))}, ["entropy_of)", "[4]"]),
        ("a part of rows", {"entropy_of": lambda m: [et.entropy(m(torch.ones(4, 2)))]}, ["entropy_of)", "[4]"]),
        ("second order", {"second_order": "exact"}, ["second_order='exact'", "'hessian'"]),
    ):
        yield "directional_change", what, partial(along, **changed), ValueError, said


def along(step=None, entropy_of=lambda model: et.entropy(model(torch.ones(2))), **options):
    step = {"weight": torch.ones(3, 2)} if step is None else step
    return et.directional_change(torch.nn.Linear(2, 3), step, entropy_of, **options)


def holding():
    """Yield (function, case, call), each call being true where the function does as it should."""
    z = torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(0))
    d, k = z.flip(0), torch.tensor([[0, 1]] * 5)
    hidden = z.index_fill(-1, torch.tensor(2), -INF), k, d.index_fill(-1, torch.tensor(2), NAN)
    for name, call in CALLS.items():
        yield name, "no rows", lambda f=call: f(z[:0], k[:0], d[:0]).shape[:1] == (0,)
        yield name, "one arm", lambda f=call: bool(f(z[..., :1], 0 * k, d[..., :1]).isfinite().all())
        yield name, "short tokens", lambda f=call: torch.equal(f(z, k.to(torch.int16), d), f(z, k, d))
        given = (z, k, d) if name == "fused_token_statistics" else hidden  # it makes its logits itself
        yield name, "inputs unchanged", partial(unchanged, call, *given)
        if given is hidden:
            yield name, "NaN at masked arms", lambda f=call: same(f(*hidden), f(z[..., :2], k, d[..., :2]))
        if name not in BY_BLOCKS:
            yield name, "vmap", lambda f=call: same(torch.func.vmap(f)(z, k, d), f(z, k, d))
            yield name, "vmap of grad", partial(slopes_agree, call, z, k, d)
            compiled = partial(torch.compile, call, backend="eager", fullgraph=True)
            yield name, "compiled", lambda f=call, make=compiled: same(make()(z, k, d), f(z, k, d))
    masks = partial(et.entropy_change, torch.zeros(3), torch.tensor([-INF, 0.0, 0.0]))
    yield "entropy_change", "masks an arm", lambda: same(masks(), torch.tensor(math.log(2 / 3)))
    uncounted = partial(et.response_entropy, second(NAN, INF, 0.0), torch.tensor([True, False]))
    yield "response_entropy", "NaN that does not count", lambda: same(uncounted(), et.entropy(second(0, 1, 2)[0]))


def same(found, expected):
    return torch.allclose(found, expected, rtol=1e-5, atol=1e-6)  # float32


def unchanged(call, *given):
    before = [value.clone() for value in given]
    call(*given)
    return all(torch.allclose(a, b, rtol=0, atol=0, equal_nan=True) for a, b in zip(given, before, strict=True))


def slopes_agree(call, z, k, d):
    leaf = z.clone().requires_grad_()
    (expected,) = torch.autograd.grad(call(leaf, k, d).sum(), leaf)
    return same(torch.func.vmap(torch.func.grad(lambda *row: call(*row).sum()))(z, k, d), expected)


def table():
    """Every case by its name: its call, and what must come of it: True, or the exception and parts of its message."""
    refusals = [*tensors_refused(), *others_refused()]
    # The policy of a sequence, and its sizes, are refused by the function that asks for them.
    refused = {
        f"{name}: {what}": (call, kind.__name__, said if name in ENUMERATED else [f"{name}(", *said])
        for name, what, call, kind, said in refusals
    }
    kept = {f"{name}: {what}": (call, "True", []) for name, what, call in holding()}
    assert len(refused) == len(refusals)
    return refused | kept


def outcome(call):
    """What came of a call: the exception and its message, or no error and the value."""
    try:
        return "no error", str(call())
    except Exception as error:
        return type(error).__name__, str(error)


CASES = {name: expected for name, (_, *expected) in table().items()}


@pytest.fixture(scope="module")
def outcomes():
    """What came of every case, without the hook."""
    repository = Path(et.__file__).parents[1]
    run = partial(subprocess.run, capture_output=True, text=True, check=True)
    finished = run([sys.executable, __file__], env={**os.environ, "PYTHONPATH": str(repository)})
    return json.loads(finished.stdout.splitlines()[-1])


@pytest.mark.parametrize("case", CASES)
def test_the_case_comes_out_as_it_must(outcomes, case):
    (kind, parts), (found, message) = CASES[case], outcomes[case]
    if kind == "True":
        assert (found, message) == ("no error", "True")
    else:
        assert found == kind, message
        assert not [part for part in parts if part not in message], message
        assert message.endswith(".")


def test_every_public_function_has_its_cases():
    functions = {name for name in et.__all__ if not isinstance(getattr(et, name), type)}
    assert functions == {name.partition(":")[0] for name in CASES}


if __name__ == "__main__":
    print(json.dumps({name: outcome(call) for name, (call, *_) in table().items()}))
