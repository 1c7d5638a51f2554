"""The process that compares mathematical answers: `python math_worker.py TIMEOUT_S`. It imports nothing of ours.

It reads `["gold", "given"]` as JSON, one pair a line, and writes 1 where math-verify finds them equal, else 0.
"""

import faulthandler
import json
import logging
import os
import resource
import sys

# Bytes of address space: a comparison that wants more fails, rather than to take the run's memory.
MEMORY = 4 << 30


def main() -> None:
    """Answer until the input ends."""
    timeout_s = float(sys.argv[1])
    # SymPy evaluates what it reads, and may print: its output must not be taken for answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    if sys.platform == "linux":
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        soft = MEMORY if hard == resource.RLIM_INFINITY else min(MEMORY, hard)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    # Their own deadlines use SIGALRM and are off below, about which they would warn.
    logging.disable(logging.WARNING)
    from math_verify import LatexExtractionConfig, parse, verify

    boxed = [LatexExtractionConfig(boxed_match_priority=0)]

    def equal(gold: str, given: str) -> bool:
        parsed = [parse(f"\\boxed{{{text}}}", boxed, parsing_timeout=None) for text in (gold, given)]
        return verify(*parsed, timeout_seconds=None)

    # The first comparison loads and caches much that later ones use.
    equal(r"\frac{1}{2}", "0.5")
    os.dup2(nowhere, 2)
    print("ready", file=answers)
    for line in sys.stdin:
        # The caller ends a process that is late; this one ends by itself should the caller be gone by then.
        faulthandler.dump_traceback_later(2 * timeout_s + 1, exit=True)
        print(int(equal(*json.loads(line))), file=answers)
        faulthandler.cancel_dump_traceback_later()


if __name__ == "__main__":
    main()
