"""Runs programs of the differential language. Input: a line with a number, then as many lines with a program each, and so on.
Output: for each program a line with its trace. With --messages the traces have the messages of cancellations."""

import gc
import json
import sys
import warnings

import interpreter
import virtual_loop


def main():
    messages = "--messages" in sys.argv[1:]
    # What is left of a program is destroyed in the middle of its awaits, and may complain.
    sys.unraisablehook = lambda _: None
    warnings.simplefilter("ignore")
    gc.disable()  # between programs only: when garbage is collected would else depend on what ran before
    virtual_loop.patch()
    while header := sys.stdin.readline():
        lines = [sys.stdin.readline() for _ in range(int(header))]
        traces = []
        for line in lines:
            trace = interpreter.run(json.loads(line), messages)
            traces.append(json.dumps(trace, separators=(",", ":"), ensure_ascii=False))
        sys.stdout.write("\n".join(traces) + "\n")
        sys.stdout.flush()
        gc.collect()


main()
